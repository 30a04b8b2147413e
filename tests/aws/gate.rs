//! The gate itself does what these tests count on.

use castrum_tests::moto::Peer;

#[test]
fn the_gate_does_what_it_promises() {
    let (kept, said) = Peer::test_gate();
    assert!(kept, "{said}");
    assert!(said.contains("\nRan ") && !said.contains("\nRan 0 "), "{said}");
}

#[tokio::test]
async fn a_peer_is_empty_at_first_and_what_is_planted_is_there() {
    let peer = Peer::start();
    let empty = peer.account().await;
    castrum_tests::moto::plant(&peer, "demo").await;
    let planted = peer.account().await;
    assert_ne!(empty, planted);
    assert!(planted.contains("theirs-2") && planted.contains("ffffffffffff"), "{planted}");
    assert_eq!(planted, peer.account().await);
    peer.reset().await;
    // Networks that every account has are made anew, with other ids.
    assert!(!peer.account().await.contains("theirs"));
}
