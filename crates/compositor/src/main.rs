//! The compositor as a separate program: see [`lianmai_compositor::serve`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lianmai_compositor::serve::process()
}
