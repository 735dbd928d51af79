//! A naive model of one channel (rule D2): fed by commands only, it predicts what each one answers and
//! exactly which events it causes. Knows nothing of the engine; URLs are issued at once.
