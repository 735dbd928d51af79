//! The compositor as a program of its own: see [`lianmai_compositor::serve`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lianmai_compositor::serve::process()
}
