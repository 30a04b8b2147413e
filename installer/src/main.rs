//! `castrum`: one blueprint becomes a running, verified cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A node of the provider `local` begins as this program; it never gets further than this line.
    if let Some(code) = castrum_provider_local::maybe_run_node_init() {
        return code;
    }
    castrum::cli::main()
}
