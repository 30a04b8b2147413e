//! Checks of the blueprint's own: what their fields say together.

use super::Check;
use crate::document::Code;
use crate::document::path::steps;
use crate::names::ComponentName;
use crate::stack::own_check_name;

impl Check<'_> {
    pub(super) fn own_checks(&mut self) {
        for (name, check) in &self.written.checks {
            if own_check_name(name).parse::<ComponentName>().is_err() {
                let message = "the name is too long: nodes carry the check as `check-NAME`".to_owned();
                self.key_error(Code::BadValue, steps!["checks", name.as_str()], message, "use a shorter one");
            }
            let Some(check) = check else { continue };
            if check.roles.is_empty() {
                let message = "no node would run the check";
                let hint = "name some roles, or leave `roles` out for all of them".to_owned();
                self.error(Code::BadValue, steps!["checks", name.as_str(), "roles"], message, hint);
            }
        }
    }
}
