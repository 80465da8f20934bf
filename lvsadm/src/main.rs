//! The program: [`lvsadm::run`] with the standard streams.

use lvsadm::{Surroundings, System, run};
use std::io::{self, BufReader, BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let mut output = BufWriter::new(io::stdout().lock());
    let status = run(
        &args,
        &mut Surroundings {
            input: &mut BufReader::new(io::stdin()),
            output: &mut output,
            errors: &mut io::stderr(),
            socket: std::env::var_os(lvs_api::SOCKET_VARIABLE)
                .filter(|path| !path.is_empty())
                .map(Into::into),
            names: &System,
        },
    );
    match output.flush() {
        Ok(()) => ExitCode::from(status),
        // The reader has seen enough: `ipvsadm -Lnc | head`.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(status),
        Err(why) => {
            // If that stream is closed too, the status has to do.
            let _ = writeln!(io::stderr(), "cannot write: {why}");
            ExitCode::from(1)
        }
    }
}
