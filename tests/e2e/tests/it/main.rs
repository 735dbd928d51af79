//! End-to-end tests on loopback: the real binary in its own process, real sockets, real media. Run by `cargo xtask test
//! e2e`; `ffmpeg`, `ffprobe`, nginx with its RTMP module and `python3` must be installed.

// Shared by the tests.
mod reconnecting;
mod server;

// Push tasks: what their receivers get, and how tasks end.
mod tasks;
mod tasks_bad;
mod tasks_hostile;
mod tasks_images;
mod tasks_lifecycle;
mod tasks_passthrough;
mod tasks_rest;
mod tasks_setup;
mod tasks_splice;

// Media: pushed and played by ffmpeg, which runs undisturbed.
mod cuts;
mod cuts_plays;
mod demo;
mod forward;
mod kinds;
mod media;
mod media_sdk;
mod media_signature;
mod media_takeover;
mod proxy;
mod python;
mod rtmps;

// Faults: native clients with bad connections, and a server that is killed or replaced.
mod actors;
mod api;
mod bans;
mod crowd;
mod expectations;
mod fault_proxy;
mod faults;
mod final_state;
mod fold;
mod ghosts;
mod ledger;
mod load;
mod observer;
mod on_air;
mod rolling;
mod storm;

// Hostile input beside two bystanders, HTTP, the life of the process, the server as a library.
mod address_limits;
mod embed;
mod generated;
mod hidden;
mod history;
mod hostile;
mod hostile_bystanders;
mod hostile_calls;
mod hostile_frames;
mod hostile_http;
mod hostile_media;
mod hostile_slow;
mod hostile_urls;
mod http;
mod large_keyframes;
mod lifecycle;
mod restart;
mod routes;
mod seeding;
mod stall_detector;
mod tls;
mod tokens;
mod upgrade;
mod webhooks;
