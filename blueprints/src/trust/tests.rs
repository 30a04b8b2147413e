//! Every way in which a proof could be bent, and that it is refused.

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHvH+8Y/abc= root@masters-1";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIZZZZZZZabc=";

fn token_for(cluster: &str, node: &str, incarnation: u64, expires: u64) -> JoinToken {
    let (cluster, node) = (cluster.parse().expect("an id"), node.parse().expect("a name"));
    let terms = JoinTerms { cluster: &cluster, node: &node, incarnation, expires };
    JoinToken::derive(&[7; 32], &terms)
}

fn token() -> JoinToken {
    token_for("0123456789ab", "masters-1", 1, 1000)
}

fn statement() -> JoinStatement {
    JoinStatement {
        node: "masters-1".parse().expect("a name"),
        incarnation: 1,
        csr: vec![1, 2, 3],
        host_keys: BTreeSet::from([host_key(KEY).expect("a key")]),
        nonce: Nonce::from_bytes([9; 32]),
    }
}

#[test]
fn a_token_is_bound_to_each_of_its_terms() {
    let all = [
        token(),
        token_for("0123456789ac", "masters-1", 1, 1000),
        token_for("0123456789ab", "masters-2", 1, 1000),
        token_for("0123456789ab", "masters-1", 2, 1000),
        token_for("0123456789ab", "masters-1", 1, 1001),
    ];
    let texts: BTreeSet<String> = all.iter().map(|token| token.expose().to_string()).collect();
    assert_eq!(texts.len(), all.len());
    assert_eq!(token().expose(), token().expose());
    let terms = JoinTerms {
        cluster: &"0123456789ab".parse().expect("an id"),
        node: &"masters-1".parse().expect("a name"),
        incarnation: 1,
        expires: 1000,
    };
    assert_ne!(JoinToken::derive(&[8; 32], &terms).expose(), token().expose());
}

#[test]
fn a_token_is_the_hmac_that_the_format_says() {
    // Python: hmac.new(b"\7"*32, b"castrum-join-v1\0" + every field after its length in eight bytes, "sha256").
    let known = "14cd5db0b597b8ae779b4ff41edeaadf1e26817d208d063e81a03f847357a062";
    assert_eq!(token().expose().as_str(), known);
}

#[test]
fn a_token_is_read_back_and_anything_else_is_refused_without_repeating_it() {
    let text = token().expose();
    assert_eq!(JoinToken::parse(&format!("{}\n", *text)).expect("a token").expose(), text);
    for bad in ["", "zz", &text[1..], &text[2..], &format!("{}00", *text), &"+".repeat(64)] {
        let error = JoinToken::parse(bad).expect_err("not a token").to_string();
        assert!(bad.len() < 8 || !error.contains(bad), "{error}");
    }
}

#[test]
fn a_token_is_not_printed() {
    assert_eq!(format!("{:?}", token()), "JoinToken(redacted)");
}

#[test]
fn a_proof_holds_for_its_token_and_its_statement_only() {
    let request = statement().prove(&token());
    assert_eq!(request.verify(&token()), Ok(()));
    let other_token = token_for("0123456789ab", "masters-1", 2, 1000);
    assert_eq!(request.verify(&other_token), Err(TrustError::WrongProof));

    let bends: [fn(&mut JoinRequest); 8] = [
        |r| r.statement.node = "masters-2".parse().expect("a name"),
        |r| r.statement.incarnation = 2,
        |r| r.statement.csr.push(0),
        |r| r.statement.host_keys.clear(),
        |r| r.statement.host_keys = BTreeSet::from([host_key(OTHER_KEY).expect("a key")]),
        |r| assert!(r.statement.host_keys.insert(host_key(OTHER_KEY).expect("a key"))),
        |r| r.statement.nonce = Nonce::from_bytes([8; 32]),
        |r| r.proof = JoinProof::from_bytes([0; 32]),
    ];
    for (index, bend) in bends.iter().enumerate() {
        let mut bent = request.clone();
        bend(&mut bent);
        assert_eq!(bent.verify(&token()), Err(TrustError::WrongProof), "bend {index}");
    }
}

#[test]
fn host_keys_that_would_say_more_in_a_known_hosts_file_are_refused() {
    for key in [
        "ssh-ed25519",
        "ssh-ed25519 AAAA comment",
        "ssh-ed25519  AAAA",
        "ssh-ed25519 AAAA\n* ssh-rsa BBBB",
        "a,b c",
    ] {
        let mut bad = statement();
        bad.host_keys = BTreeSet::from([key.to_owned()]);
        assert_eq!(bad.prove(&token()).verify(&token()), Err(TrustError::NotAHostKey), "{key}");
    }
    let mut many = statement();
    many.host_keys = (0..=MAX_HOST_KEYS).map(|n| format!("ssh-ed25519 AAAA{n}")).collect();
    assert_eq!(many.prove(&token()).verify(&token()), Err(TrustError::TooManyHostKeys));
}

#[test]
fn a_request_survives_json_and_bent_json_is_refused() {
    let request = statement().prove(&token());
    let json = serde_json::to_string(&request).expect("json");
    assert!(!json.contains(token().expose().as_str()));
    assert_eq!(serde_json::from_str::<JoinRequest>(&json).expect("a request"), request);
    let proof = request.proof.to_string();
    for bad in
        [json.replace(&proof, &proof[2..]), json.replace("010203", "01020"), json.replace("010203", "01020x")]
    {
        assert!(serde_json::from_str::<JoinRequest>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_token_enters_json_only_where_a_field_says_so() {
    #[derive(Serialize, Deserialize)]
    struct Carrier {
        #[serde(with = "exposed_token")]
        token: JoinToken,
    }
    let json = serde_json::to_string(&Carrier { token: token() }).expect("json");
    assert_eq!(serde_json::from_str::<Carrier>(&json).expect("read back").token.expose(), token().expose());
    let error =
        serde_json::from_str::<Carrier>(r#"{"token":"5ec4e7"}"#).err().expect("too short").to_string();
    assert!(!error.contains("5ec4e7"), "{error}");
}

#[test]
fn a_host_key_is_proven_only_by_the_token_that_boot_data_carried() {
    let line = |key| format!("ssh-ed25519 {}\n", host_key_proof(&token(), key).expect("a proof"));
    let proofs = format!("ssh-rsa {}\n{}", "0".repeat(64), line(KEY));
    assert_eq!(verify_host_key(&token(), KEY, &proofs), Ok(()));

    let kind = || "ssh-ed25519".to_owned();
    let mismatch = Err(TrustError::HostKeyMismatch { kind: kind() });
    let not_proven = Err(TrustError::HostKeyNotProven { kind: kind() });
    // Somebody in between shows their own key, with our proofs, or with those of a token of their own.
    assert_eq!(verify_host_key(&token(), OTHER_KEY, &proofs), mismatch);
    let theirs = token_for("0123456789ab", "masters-1", 2, 1000);
    let forged = format!("ssh-ed25519 {}\n", host_key_proof(&theirs, OTHER_KEY).expect("a proof"));
    assert_eq!(verify_host_key(&token(), OTHER_KEY, &forged), mismatch);
    // A proof for another type does not count, even if its code is right.
    let other_type = line(KEY).replace("ssh-ed25519", "ssh-rsa");
    for nothing in ["", "\n\n", "ssh-ed25519", "ssh-ed25519 00", &other_type, &line(KEY).repeat(2000)] {
        assert_eq!(verify_host_key(&token(), KEY, nothing), not_proven, "{}", nothing.len());
    }
    assert_eq!(verify_host_key(&token(), "nonsense", &proofs), Err(TrustError::NotAHostKey));
}

#[test]
fn what_is_signed_names_its_kind() {
    assert_eq!(signing_input("m", b"ab"), b"castrum-sign-v1\0\0\0\0\0\0\0\0\x01m\0\0\0\0\0\0\0\x02ab");
    assert_ne!(signing_input("ma", b"b"), signing_input("m", b"ab"));
}
