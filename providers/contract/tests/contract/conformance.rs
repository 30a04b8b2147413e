//! The suite itself: a good provider passes, through the trait and through the protocol, and each flaw is found.

use std::collections::BTreeSet;

use crate::memory::{Flaw, MemoryCandidate, ground};
use castrum_provider::conformance::{Check, Outcome, Suite, Verdict};

async fn outcomes(flaw: Flaw, served: bool) -> Vec<Outcome> {
    let (candidate, ground) = (MemoryCandidate::new(flaw, served), ground());
    let suite = Suite::new(&candidate, &ground);
    let outcomes = suite.run(&mut |_| {}).await;
    let swept = suite.sweep().await;
    assert!(swept.is_ok() || flaw != Flaw::None, "{swept:?}");
    outcomes
}

fn failed(outcomes: &[Outcome]) -> BTreeSet<&'static str> {
    let failed = outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_)));
    failed.map(|outcome| outcome.check.name()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_good_provider_passes_through_the_trait() {
    let outcomes = outcomes(Flaw::None, false).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Ok), "{outcomes:#?}");
    assert_eq!(outcomes.len(), Check::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn a_good_provider_passes_through_the_protocol() {
    let outcomes = outcomes(Flaw::None, true).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Ok), "{outcomes:#?}");
}

#[tokio::test(start_paused = true)]
async fn every_flaw_is_found_by_its_check() {
    let flaws = [
        (Flaw::NoRemedy, Check::Preflight),
        (Flaw::PowerRefused, Check::PowerTold),
        (Flaw::MakesAnything, Check::Unsupported),
        (Flaw::AlwaysChanged, Check::MakeOnce),
        (Flaw::Twins, Check::MakeAtOnce),
        (Flaw::LeavesHalf, Check::InterruptedMake),
        (Flaw::SticksHalf, Check::InterruptedRemove),
        (Flaw::Replaces, Check::ChangeKeeps),
        (Flaw::RereadsBootData, Check::BootDataOnce),
        (Flaw::RemoveFails, Check::RemoveAbsent),
        (Flaw::RemovesAll, Check::RemoveWhole),
        (Flaw::Thief, Check::NotOurs),
        (Flaw::PrivateList, Check::Labels),
        (Flaw::NeverBlind, Check::Blind),
        (Flaw::AbsentWhenDark, Check::NotAbsent),
        (Flaw::AllTransient, Check::Classes),
        (Flaw::PullsTheRug, Check::NotReady),
        (Flaw::StaysOff, Check::PowerAgain),
        (Flaw::Limp, Check::PowerSet),
        (Flaw::Chatty, Check::Discreet),
    ];
    let covered: BTreeSet<Check> = flaws.iter().map(|(_, check)| *check).collect();
    assert_eq!(covered, Check::ALL.iter().copied().collect(), "each check has a flaw that it finds");
    for (flaw, check) in flaws {
        for served in [false, true] {
            let outcomes = outcomes(flaw, served).await;
            assert!(failed(&outcomes).contains(check.name()), "{flaw:?} is not found: {outcomes:#?}");
        }
    }
}

#[test]
fn every_check_holds_a_must_of_the_contract_and_every_must_names_its_check() {
    let contract = include_str!("../../../CONTRACT.md");
    let rows: Vec<&str> = contract
        .lines()
        .skip_while(|line| !line.starts_with("## The MUSTs"))
        .filter(|line| line.starts_with("| ") && line.contains(".rs::"))
        .collect();
    for check in Check::ALL {
        let begins = format!("| {} | ", check.must());
        let row = rows.iter().find(|row| row.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("no row is `{}`", check.must()));
        assert!(row.contains(&format!("`{}`", check.name())), "`{}` is not named by {row}", check.name());
    }
    for row in rows {
        assert!(Check::ALL.iter().any(|check| row.starts_with(&format!("| {} |", check.must()))), "{row}");
    }
}
