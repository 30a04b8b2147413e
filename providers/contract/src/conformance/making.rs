//! Checks of making and removing: once, at once, again after an interruption, and changed in place.

use std::time::Duration;

use castrum_blueprints::names::ResourceKind;
use tokio::time::{Instant, sleep, timeout};

use super::{Checked, Miss, Opened, Suite, failed, must, skipped};
use crate::{Change, Removed, ResourceSeen, Wanted};

/// After which part of the usual time a call is interrupted, in percent.
const MOMENTS: [u32; 6] = [0, 10, 30, 60, 90, 100];

fn incarnation(seen: &ResourceSeen) -> Option<&str> {
    seen.machine.as_ref().map(|machine| machine.incarnation.as_str())
}

impl Suite<'_> {
    /// Everything that the place makes, in the order in which it is made.
    fn everything(&self, opened: &Opened) -> Vec<Wanted> {
        self.base(opened).into_iter().chain(self.machine(opened, 0, false)).collect()
    }

    pub(super) async fn make_once(&self) -> Checked {
        let opened = self.open().await?;
        let all = self.everything(&opened);
        must(!all.is_empty(), || "it makes nothing at all".to_owned())?;
        for wanted in &all {
            let made = self.must_ensure(&opened, 0, wanted).await?;
            must(made.change == Change::Created, || {
                format!("`{}` is new, and `ensure` answers {:?}", wanted.path, made.change)
            })?;
            must(made.seen.ready, || format!("`{}` was made, and is not ready", wanted.path))?;
            self.must_be_unchanged(&opened, wanted, &made.seen.id).await?;
        }
        let seen = self.look_all(&opened).await?;
        must(seen.len() == all.len(), || format!("{} were made, and a look finds {}", all.len(), seen.len()))
    }

    pub(super) async fn make_at_once(&self) -> Checked {
        let (one, two) = (self.open().await?, self.open().await?);
        let Some(wanted) = self.everything(&one).pop() else { return Err(skipped("it makes nothing")) };
        for base in self.base(&one) {
            self.must_ensure(&one, 0, &base).await?;
        }
        self.must_remove(&one, &wanted.path).await?;
        let (first, second) =
            tokio::join!(self.must_ensure(&one, 0, &wanted), self.must_ensure(&two, 0, &wanted));
        let (first, second) = (first?, second?);
        must(first.seen.id == second.seen.id, || {
            format!("two asked at a time, and got {} and {}", first.seen.id, second.seen.id)
        })?;
        self.must_remove(&one, &wanted.path).await?;
        self.must_be_gone(&two, &wanted.path).await
    }

    pub(super) async fn interrupted_make(&self) -> Checked {
        let opened = self.open().await?;
        let wanted = self.machine(&opened, 0, false)?;
        for base in self.base(&opened) {
            self.must_ensure(&opened, 0, &base).await?;
        }
        let began = Instant::now();
        self.must_ensure(&opened, 0, &wanted).await?;
        let usual = began.elapsed();
        self.must_remove(&opened, &wanted.path).await?;
        for moment in MOMENTS {
            self.interrupt(&opened, opened.provider.ensure(&wanted), usual * moment / 100).await.map_err(
                |text| failed(format!("killed while making, after {moment} % of its time: {text}")),
            )?;
            let at = |miss| after("making", moment, miss);
            let made = self.must_ensure(&opened, 0, &wanted).await.map_err(at)?;
            must(made.seen.ready, || format!("killed after {moment} % of making: it is not completed"))?;
            self.must_be_unchanged(&opened, &wanted, &made.seen.id).await.map_err(at)?;
            // A second one under the same label would come to light now.
            self.must_remove(&opened, &wanted.path).await.map_err(at)?;
            self.must_be_gone(&opened, &wanted.path).await.map_err(at)?;
        }
        Ok(())
    }

    pub(super) async fn interrupted_remove(&self) -> Checked {
        let opened = self.open().await?;
        let (wanted, _) = self.made_machine(&opened).await?;
        let began = Instant::now();
        self.must_remove(&opened, &wanted.path).await?;
        let usual = began.elapsed();
        for moment in MOMENTS {
            let at = |miss| after("removing", moment, miss);
            self.must_ensure(&opened, 0, &wanted).await.map_err(at)?;
            self.interrupt(&opened, opened.provider.remove(&wanted.path), usual * moment / 100)
                .await
                .map_err(|text| failed(format!("killed after {moment} % of removing: {text}")))?;
            self.must_remove(&opened, &wanted.path).await.map_err(at)?;
            self.must_be_gone(&opened, &wanted.path).await.map_err(at)?;
        }
        Ok(())
    }

    /// Lets a call run for a time, and ends the provider's process then, or the call where there is none.
    async fn interrupt<T: std::fmt::Debug>(
        &self,
        opened: &Opened,
        call: impl Future<Output = Result<T, crate::Failure>>,
        after: Duration,
    ) -> Result<(), String> {
        let Some(process) = &opened.process else {
            let _ = timeout(after, call).await;
            return Ok(());
        };
        let killed = async {
            sleep(after).await;
            process.kill_process().await;
        };
        let (answer, ()) = tokio::join!(call, killed);
        match self.hear(opened, answer) {
            Err(failure) if !failure.class.is_retryable() => {
                Err(format!("the call may not be repeated: {failure}"))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn change_keeps(&self) -> Checked {
        let opened = self.open().await?;
        let (_, before) = self.made_machine(&opened).await?;
        let larger = self.machine(&opened, 0, true)?;
        let changed = self.must_ensure(&opened, 0, &larger).await?;
        must(changed.change == Change::Changed, || {
            format!("its memory differs, and `ensure` answers {:?}", changed.change)
        })?;
        must(incarnation(&changed.seen) == incarnation(&before), || {
            "its memory differs, and another machine took its place".to_owned()
        })?;
        let told = changed.seen.spec.as_ref();
        must(told.is_none_or(|spec| *spec == larger.spec.digest()), || {
            "it was changed, and its `spec` tells something else".to_owned()
        })?;
        self.must_be_unchanged(&opened, &larger, &changed.seen.id).await
    }

    pub(super) async fn boot_data_once(&self) -> Checked {
        let opened = self.open().await?;
        if !opened.provider.abilities().boot_data {
            return Err(skipped("its machines read no boot data"));
        }
        let (wanted, before) = self.made_machine(&opened).await?;
        for boot_data in [Some(self.boot_data("second")), None] {
            let again = Wanted { boot_data, ..wanted.clone() };
            self.must_be_unchanged(&opened, &again, &before.id).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_absent(&self) -> Checked {
        let opened = self.open().await?;
        let Some(wanted) = self.everything(&opened).pop() else { return Err(skipped("it makes nothing")) };
        let absent = |removed| {
            must(removed == Removed::Absent, || {
                format!("nothing was there, and `remove` answers {removed:?}")
            })
        };
        absent(self.must_remove(&opened, &wanted.path).await?)?;
        let never = self.path(wanted.path.kind, "never-made");
        absent(self.must_remove(&opened, &never).await?)?;
        self.make(&opened, &wanted).await?;
        let removed = self.must_remove(&opened, &wanted.path).await?;
        must(removed == Removed::Removed, || format!("it was there, and `remove` answers {removed:?}"))?;
        absent(self.must_remove(&opened, &wanted.path).await?)
    }

    pub(super) async fn not_ready(&self) -> Checked {
        let opened = self.open().await?;
        let Some(network) = self.base(&opened).into_iter().find(|w| w.path.kind == ResourceKind::Network)
        else {
            return Err(skipped("it makes no networks"));
        };
        let (machine, _) = self.made_machine(&opened).await?;
        match self.hear(&opened, opened.provider.remove(&network.path).await) {
            Err(failure) if failure.class == crate::FailureClass::NotReady => {}
            other => {
                return Err(failed(format!("a machine is in the network, and `remove` answers {other:?}")));
            }
        }
        self.must_remove(&opened, &machine.path).await?;
        let others = self.remove_all(|path| path.kind != ResourceKind::Network).await;
        others.map_err(failed)?;
        self.must_remove(&opened, &network.path).await.map(drop)
    }
}

/// The same with the moment in it.
fn after(what: &str, moment: u32, miss: Miss) -> Miss {
    match miss {
        Miss::Failed(text) => failed(format!("killed after {moment} % of {what}: {text}")),
        skipped @ Miss::Skipped(_) => skipped,
    }
}
