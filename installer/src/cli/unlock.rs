//! `unlock`: ends somebody's lease on purpose.

use super::args::Unlock;
use super::context::Context;
use super::fault::{Fault, code};
use super::output;
use crate::project::told;

/// `castrum unlock`.
pub(super) fn unlock(args: &Unlock) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    let Some(shared) = context.project.shared() else {
        let text = "the state of this cluster lies in its folder, and the lock there ends with its process";
        return Err(Fault::new(code::ERROR, text).hint("end the process that the refused command named"));
    };
    if let Some(lease) = shared.unlock(&args.id)? {
        output::note(&format!("broken: {}\n", told(&lease)));
        return Ok(code::DONE);
    }
    let text = format!("`{}` has no lease `{}`", shared.name(), args.id);
    let hint = shared.lease()?.map_or_else(
        || "nobody holds it: there is nothing to break".to_owned(),
        |lease| format!("it is held by {}", told(&lease)),
    );
    Err(Fault::new(code::REFUSED, text).hint(hint))
}
