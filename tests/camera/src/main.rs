//! What runs inside the virtual machine of the camera test: one scenario after the other, `edge-vit` before a camera
//! that the kernel's own drivers serve. Says on stdout how each came out; exit code 0 if all are well.

mod program;
mod scenarios;
mod system;
mod usb;

use std::process::ExitCode;
use std::time::Instant;

use scenarios::SCENARIOS;

fn main() -> ExitCode {
    let mut failed = 0;
    for scenario in SCENARIOS {
        let start = Instant::now();
        let outcome = (scenario.run)();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(found) => println!("ok      {:<43} {seconds:>5.1} s  {found}", scenario.name),
            Err(reason) => {
                failed += 1;
                println!("FAILED  {:<43} {seconds:>5.1} s  {reason}", scenario.name);
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
