//! Checks of power control: told as it is, where it was put, and on again when wanted.

use super::{Checked, Miss, Suite, failed, must, skipped};
use crate::{Change, Failure, FailureClass, Power, PowerState, Provider};
use castrum_blueprints::names::{ResourceKind, ResourcePath};

fn done<T>(what: &str, answer: Result<T, Failure>) -> Result<T, Miss> {
    answer.map_err(|failure| failed(format!("{what} fails: {failure}")))
}

fn control(provider: &dyn Provider) -> Result<&dyn Power, Miss> {
    provider.power().ok_or_else(|| skipped("it has no power control"))
}

async fn must_be(power: &dyn Power, machine: &ResourcePath, wanted: PowerState) -> Checked {
    let state = done("asking for the power state", power.state(machine).await)?;
    must(state == wanted, || format!("put to {wanted:?}, and it is {state:?}"))
}

impl Suite<'_> {
    pub(super) async fn power_told(&self) -> Checked {
        let opened = self.open().await?;
        let abilities = opened.provider.abilities();
        must(abilities.power == opened.provider.power().is_some(), || {
            format!("`abilities` says {} of power, and `power` says otherwise", abilities.power)
        })?;
        must(opened.provider.abilities() == abilities, || {
            "its abilities change from call to call".to_owned()
        })?;
        must(self.open().await?.provider.abilities() == abilities, || {
            "its abilities change from one to the next".to_owned()
        })?;
        let Some(power) = opened.provider.power() else { return Ok(()) };
        let never = self.path(ResourceKind::Machine, "never-made");
        match self.hear(&opened, power.state(&never).await) {
            Err(failure) if failure.class == FailureClass::Unsupported => {
                Err(failed(format!("`abilities` tells of power, and it is refused: {failure}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn power_again(&self) -> Checked {
        let opened = self.open().await?;
        let power = control(&*opened.provider)?;
        let (wanted, before) = self.made_machine(&opened).await?;
        done("switching off", power.set(&wanted.path, PowerState::Off).await)?;
        let again = self.must_ensure(&opened, 0, &wanted).await?;
        must(again.change == Change::Changed, || {
            format!("it was off, and `ensure` answers {:?}", again.change)
        })?;
        must(again.seen.id == before.id, || "it was off, and another machine took its place".to_owned())?;
        must_be(power, &wanted.path, PowerState::On).await
    }

    pub(super) async fn power_set(&self) -> Checked {
        let opened = self.open().await?;
        let power = control(&*opened.provider)?;
        let (machine, before) = self.made_machine(&opened).await?;
        let path = &machine.path;
        must_be(power, path, PowerState::On).await?;
        for wanted in [PowerState::On, PowerState::Off, PowerState::Off, PowerState::On] {
            done(&format!("setting {wanted:?}"), power.set(path, wanted).await)?;
            must_be(power, path, wanted).await?;
        }
        done("killing", power.kill(path).await)?;
        must_be(power, path, PowerState::Off).await?;
        let seen = self.look(&opened, path).await?;
        must(seen.as_ref().is_some_and(|seen| seen.id == before.id), || {
            format!("it is off, and a look says {seen:?}")
        })
    }
}
