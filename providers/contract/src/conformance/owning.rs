//! Checks of what belongs to whom, and of what is not seen.

use castrum_blueprints::names::ResourceKind;

use super::base::one_of_each;
use super::{Checked, Miss, Opened, Suite, failed, must, skipped};
use crate::{FailureClass, PowerState, Removed};

impl Suite<'_> {
    pub(super) async fn unsupported(&self) -> Checked {
        let opened = self.open().await?;
        let kinds = opened.provider.abilities().kinds;
        let all = one_of_each("a").into_iter().map(|(_, spec)| spec);
        let missing: Vec<_> = all.filter(|spec| !kinds.contains(&spec.kind())).collect();
        if missing.is_empty() {
            return Err(skipped("it makes every kind that can be asked for"));
        }
        for spec in missing {
            let wanted = self.wanted("unsupported", spec);
            let answer = self.ensure(&opened, 0, &wanted).await;
            let refused = matches!(&answer, Err(failure) if failure.class == FailureClass::Unsupported);
            must(refused, || {
                format!("`{}` is not among its abilities, and it answers {answer:?}", wanted.path)
            })?;
            self.must_remove(&opened, &wanted.path).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_whole(&self) -> Checked {
        let opened = self.open().await?;
        let (first, second) = (self.machine(&opened, 0, false)?, self.machine(&opened, 1, false)?);
        self.make(&opened, &first).await?;
        let kept = self.make(&opened, &second).await?.seen;
        self.must_remove(&opened, &first.path).await?;
        let seen = self.look_all(&self.open().await?).await?;
        must(seen.iter().all(|seen| seen.path != first.path), || {
            format!("something of `{}` is left", first.path)
        })?;
        must(seen.iter().any(|seen| seen.path == kept.path && seen.id == kept.id && seen.ready), || {
            format!("`{}` was removed, and `{}` is not what it was: {seen:?}", first.path, second.path)
        })?;
        self.must_be_unchanged(&opened, &second, &kept.id).await
    }

    pub(super) async fn not_ours(&self) -> Checked {
        let (ours, theirs) = (self.open().await?, self.open_for(1).await?);
        let (wanted, before) = self.made_machine(&ours).await?;
        must(self.look_all(&theirs).await?.is_empty(), || "it lists what is another cluster's".to_owned())?;
        match self.remove(&theirs, 1, &wanted.path).await {
            Ok(Removed::Absent) => {}
            Err(failure) if failure.class == FailureClass::NotOurs => {}
            other => return Err(failed(format!("asked to remove what is another's, it answers {other:?}"))),
        }
        if self.ground.nodes.first().is_some_and(|(_, existing)| existing.is_some()) {
            let taken = self.ensure(&theirs, 1, &wanted).await;
            let refused = matches!(&taken, Err(failure) if failure.class == FailureClass::NotOurs);
            must(refused, || format!("asked to take another's machine, it answers {taken:?}"))?;
        }
        self.must_be_unchanged(&ours, &wanted, &before.id).await
    }

    pub(super) async fn labels(&self) -> Checked {
        let opened = self.open().await?;
        let (wanted, made) = self.made_machine(&opened).await?;
        if let Some(process) = &opened.process {
            process.kill_process().await;
        }
        let stranger = self.open().await?;
        let seen = self.look_all(&stranger).await?;
        let found = seen.iter().find(|seen| seen.path == wanted.path);
        let Some(found) = found else {
            return Err(failed("one who did not make it does not find it by its label"));
        };
        must(found.id == made.id, || format!("it is found as {}, and was made as {}", found.id, made.id))?;
        must(found.spec == made.spec, || "it is found with another `spec` than it was made with".to_owned())?;
        must(seen.iter().all(|seen| seen.path.site == self.ground.site), || {
            "it lists what is in another site".to_owned()
        })
    }

    async fn unreachable(&self) -> Result<Opened, Miss> {
        match self.candidate.open_unreachable(self.cluster(0)).await {
            Some(Ok(opened)) => Ok(opened),
            Some(Err(failure)) => {
                Err(failed(format!("it cannot be opened while its place does not answer: {failure}")))
            }
            None => Err(skipped("nothing is known that makes the place unreachable")),
        }
    }

    pub(super) async fn blind(&self) -> Checked {
        let dark = self.unreachable().await?;
        let (wanted, _) = self.made_machine(&self.open().await?).await?;
        let look = self.hear(&dark, dark.provider.observe().await);
        let there = look.seen.get(&wanted.path);
        must(!look.blind.is_empty() || there.is_some_and(|seen| !seen.ready), || {
            format!("the place does not answer, and a look says {:?} and is not blind", look.seen)
        })?;
        must(look.blind.iter().all(|blind| blind.site == self.ground.site), || {
            "it is blind for another site".to_owned()
        })
    }

    pub(super) async fn not_absent(&self) -> Checked {
        let dark = self.unreachable().await?;
        let (wanted, before) = self.made_machine(&self.open().await?).await?;
        let answer = self.hear(&dark, dark.provider.remove(&wanted.path).await);
        must(answer.is_err(), || format!("the place does not answer, and `remove` says {answer:?}"))?;
        self.must_be_unchanged(&self.open().await?, &wanted, &before.id).await
    }

    pub(super) async fn classes(&self) -> Checked {
        let opened = self.open().await?;
        let mut told = 0;
        if let Some(power) = opened.provider.power() {
            let never = self.path(ResourceKind::Machine, "never-made");
            let answers = [
                self.hear(&opened, power.state(&never).await.map(drop)),
                self.hear(&opened, power.set(&never, PowerState::On).await),
            ];
            for answer in answers {
                let final_word = matches!(&answer, Err(failure) if !failure.class.is_retryable());
                must(final_word, || format!("there is no such machine, and `power` says {answer:?}"))?;
                told += 1;
            }
        }
        if let Ok(dark) = self.unreachable().await {
            let wanted = self.machine(&dark, 0, false)?;
            match self.hear(&dark, dark.provider.ensure(&wanted).await) {
                Err(failure) if failure.class.is_retryable() || failure.class == FailureClass::Denied => {
                    told += 1;
                }
                other => {
                    return Err(failed(format!("the place does not answer, and `ensure` says {other:?}")));
                }
            }
        }
        if told > 0 { Ok(()) } else { Err(skipped("nothing that fails can be brought about")) }
    }
}
