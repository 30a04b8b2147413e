//! Joining: once, in time, by the right machine, with one key.

use castrum_blueprints::trust::TrustError;

use super::*;

const EXPIRES: u64 = NOW + HOUR;

fn offered() -> (Keyring, JoinToken) {
    let mut keyring = keyring();
    let token = keyring.offer_token(&name("masters-1"), 1, EXPIRES, NOW).expect("a token");
    (keyring, token)
}

fn enrol(keyring: &mut Keyring, request: &JoinRequest, now: u64) -> Result<IssuedCertificate, EnrolError> {
    let before = keyring.enrolment(&name("masters-1")).cloned();
    let result = keyring.enrol(request, &identity("masters-1"), now, &rng());
    if result.is_err() {
        assert_eq!(keyring.enrolment(&name("masters-1")).cloned(), before, "a refusal changes nothing");
    }
    result
}

#[test]
fn a_node_joins_with_its_token_and_is_recorded() {
    let (mut keyring, token) = offered();
    let issued =
        enrol(&mut keyring, &Applicant::new().request("masters-1", &token), NOW + 5).expect("a certificate");
    let known = keyring.enrolment(&name("masters-1")).expect("a record").clone();
    assert_eq!((known.incarnation, known.token_expires), (1, EXPIRES));
    let key = known.key.expect("a key");
    assert_eq!((key.serial, key.not_after, key.joined), (issued.serial, issued.not_after, NOW + 5));
    assert!(key.host_keys.contains(HOST_KEY));
    assert_eq!(keyring.enrolments().count(), 1);
}

#[test]
fn a_token_is_spent_on_one_key_only() {
    let (mut keyring, token) = offered();
    let first = Applicant::new();
    let one = enrol(&mut keyring, &first.request("masters-1", &token), NOW).expect("a certificate");
    let thief = Applicant::new().request("masters-1", &token);
    assert!(matches!(enrol(&mut keyring, &thief, NOW), Err(EnrolError::Spent(_))));
    // A crash lost the answer: the same key asks again, in time or late.
    for now in [NOW + 1, EXPIRES + DAY] {
        let again = enrol(&mut keyring, &first.request("masters-1", &token), now).expect("a certificate");
        assert_ne!(again.serial, one.serial);
        let key = keyring.enrolment(&name("masters-1")).and_then(|known| known.key.clone()).expect("a key");
        assert_eq!((key.joined, key.serial), (NOW, again.serial));
    }
}

#[test]
fn a_token_ends_in_its_second() {
    let (mut keyring, token) = offered();
    let request = Applicant::new().request("masters-1", &token);
    for now in [EXPIRES, EXPIRES + 1] {
        assert!(matches!(
            enrol(&mut keyring, &request, now),
            Err(EnrolError::Expired { expired: EXPIRES, .. })
        ));
    }
    assert!(enrol(&mut keyring, &request, EXPIRES - 1).is_ok());
    let born_late = keyring.offer_token(&name("masters-2"), 1, NOW, NOW);
    assert!(matches!(born_late, Err(EnrolError::Expired { .. })));
    assert!(keyring.enrolment(&name("masters-2")).is_none());
}

#[test]
fn only_the_node_that_the_token_names_may_join() {
    let (mut keyring, token) = offered();
    let second = keyring.offer_token(&name("masters-2"), 1, EXPIRES, NOW).expect("a token");
    let node = Applicant::new();
    let wrong = |result| matches!(result, Err(EnrolError::Proof { source: TrustError::WrongProof, .. }));
    assert!(wrong(enrol(&mut keyring, &node.request("masters-1", &second), NOW)));
    let stolen_name = keyring.enrol(&node.request("masters-2", &token), &identity("masters-2"), NOW, &rng());
    assert!(wrong(stolen_name));
    let other_machine = enrol(&mut keyring, &node.request("masters-2", &second), NOW);
    assert!(matches!(other_machine, Err(EnrolError::OtherNode { .. })));
    let unknown = keyring.enrol(&node.request("masters-3", &token), &identity("masters-3"), NOW, &rng());
    assert!(matches!(unknown, Err(EnrolError::Unknown(_))));
    assert!(matches!(keyring.token(&name("masters-3")), Err(EnrolError::Unknown(_))));
}

#[test]
fn a_token_of_another_keyring_proves_nothing() {
    let (mut keyring, _) = offered();
    let (_, foreign) = offered();
    let refused = enrol(&mut keyring, &Applicant::new().request("masters-1", &foreign), NOW);
    assert!(matches!(refused, Err(EnrolError::Proof { .. })));
}

#[test]
fn a_request_that_was_changed_on_its_way_is_refused() {
    let (mut keyring, token) = offered();
    let mut swapped = Applicant::new().request("masters-1", &token);
    swapped.statement.csr = Applicant::new().csr();
    assert!(matches!(enrol(&mut keyring, &swapped, NOW), Err(EnrolError::Proof { .. })));
    let mut pinned = Applicant::new().request("masters-1", &token);
    pinned.statement.host_keys.clear();
    assert!(matches!(enrol(&mut keyring, &pinned, NOW), Err(EnrolError::Proof { .. })));
}

#[test]
fn a_proven_request_still_needs_a_request_that_its_key_signed() {
    let (mut keyring, token) = offered();
    let mut statement = Applicant::new().statement("masters-1", 1);
    *statement.csr.last_mut().expect("bytes") ^= 1;
    let refused = enrol(&mut keyring, &statement.prove(&token), NOW);
    assert!(matches!(refused, Err(EnrolError::Issue { source: IssueError::Request(_), .. })));
    let refused = enrol(&mut keyring, &Applicant::new().request("masters-1", &token), 7);
    assert!(matches!(refused, Err(EnrolError::Issue { source: IssueError::Clock(7), .. })));
}

#[test]
fn asking_twice_gives_the_same_token_until_it_expired_unused() {
    let (mut keyring, token) = offered();
    let node = name("masters-1");
    let later = keyring.offer_token(&node, 1, EXPIRES + HOUR, NOW + 60).expect("a token");
    assert_eq!(later.expose(), token.expose());
    assert_eq!(keyring.token(&node).expect("a token").expose(), token.expose());
    let fresh = keyring.offer_token(&node, 1, EXPIRES + HOUR, EXPIRES).expect("a token");
    assert_ne!(fresh.expose(), token.expose());
    let old = Applicant::new().request("masters-1", &token);
    assert!(matches!(enrol(&mut keyring, &old, EXPIRES + 1), Err(EnrolError::Proof { .. })));
    let new = Applicant::new().request("masters-1", &fresh);
    assert!(enrol(&mut keyring, &new, EXPIRES + 1).is_ok());
    let spent = keyring.offer_token(&node, 1, EXPIRES + DAY, EXPIRES + 3 * HOUR).expect("a token");
    assert_eq!(spent.expose(), fresh.expose(), "boot data of a node that joined does not change");
}

#[test]
fn a_replaced_machine_is_out() {
    let (mut keyring, token) = offered();
    let (node, old) = (name("masters-1"), Applicant::new());
    enrol(&mut keyring, &old.request("masters-1", &token), NOW).expect("a certificate");
    let second = keyring.offer_token(&node, 2, EXPIRES, NOW).expect("a token");
    assert_ne!(second.expose(), token.expose());

    let as_old = enrol(&mut keyring, &old.request("masters-1", &token), NOW);
    assert!(matches!(as_old, Err(EnrolError::OtherIncarnation { asked: 1, current: 2, .. })));
    let as_new = enrol(&mut keyring, &old.statement("masters-1", 2).prove(&token), NOW);
    assert!(matches!(as_new, Err(EnrolError::Proof { .. })));
    let future = enrol(&mut keyring, &old.statement("masters-1", 3).prove(&second), NOW);
    assert!(matches!(future, Err(EnrolError::OtherIncarnation { asked: 3, current: 2, .. })));
    let renewed = keyring.issue_node(&pem_of(&old), &identity("masters-1"), NOW, &rng());
    assert!(matches!(renewed, Err(EnrolError::NotEnrolled(_))));
    let back = keyring.offer_token(&node, 1, EXPIRES, NOW);
    assert!(matches!(back, Err(EnrolError::OtherIncarnation { asked: 1, current: 2, .. })));

    let new = Applicant::new().statement("masters-1", 2).prove(&second);
    assert!(enrol(&mut keyring, &new, NOW).is_ok());
}

fn pem_of(node: &Applicant) -> String {
    certificate::pem("CERTIFICATE REQUEST", &node.csr())
}

#[test]
fn a_node_that_joined_gets_new_certificates_for_its_key_only() {
    let (mut keyring, token) = offered();
    let (node, late) = (Applicant::new(), EXPIRES + 300 * DAY);
    let before = keyring.issue_node(&pem_of(&node), &identity("masters-1"), NOW, &rng());
    assert!(matches!(before, Err(EnrolError::NotEnrolled(_))));
    enrol(&mut keyring, &node.request("masters-1", &token), NOW).expect("a certificate");

    let renewed =
        keyring.issue_node(&pem_of(&node), &identity("masters-1"), late, &rng()).expect("a certificate");
    assert_eq!(renewed.not_after, late + 365 * DAY);
    let key = keyring.enrolment(&name("masters-1")).and_then(|known| known.key.clone()).expect("a key");
    assert_eq!((key.serial, key.joined), (renewed.serial, NOW));
    assert!(key.host_keys.contains(HOST_KEY), "what was pinned stays pinned");

    let other = keyring.issue_node(&pem_of(&Applicant::new()), &identity("masters-1"), NOW, &rng());
    assert!(matches!(other, Err(EnrolError::NotEnrolled(_))));
    let elsewhere = keyring.issue_node(&pem_of(&node), &identity("masters-2"), NOW, &rng());
    assert!(matches!(elsewhere, Err(EnrolError::Unknown(_))));
    let garbage = keyring.issue_node("garbage", &identity("masters-1"), NOW, &rng());
    assert!(matches!(garbage, Err(EnrolError::Issue { source: IssueError::Request(_), .. })));
}

#[test]
fn a_forgotten_node_is_unknown() {
    let (mut keyring, token) = offered();
    let request = Applicant::new().request("masters-1", &token);
    assert!(keyring.forget(&name("masters-1")));
    assert!(!keyring.forget(&name("masters-1")));
    assert!(matches!(enrol(&mut keyring, &request, NOW), Err(EnrolError::Unknown(_))));
}
