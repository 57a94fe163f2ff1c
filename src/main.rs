//! The program `transship`; what it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    transship::run(std::env::args_os())
}
