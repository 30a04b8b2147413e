//! Makes the node a member of what a component is for. Values that come from peers are used and never told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use castrum_blueprints::manifest::{Assertion, Call, ComponentManifest, MembershipManifest};
use castrum_blueprints::status::Verdict;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::api::{Context, chain};
use crate::checks::assertion::check;
use crate::http::{Answer, Ask, HttpError, request};
use crate::identity::Tls;

const ASK: Duration = Duration::from_secs(5);
/// Joining may mean to fetch state from others first.
const CALL: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);
const MOST: usize = 1 << 20;
const OPEN: &str = "${fact:";

/// Why the node is not a member (yet).
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The component has no membership.
    #[error("`{0}` has no membership")]
    None(String),
    /// A fact is needed, and there is nobody to ask for it.
    #[error("the fact `{0}` is needed, and the manifest names nobody who has it")]
    NobodyKnows(String),
    /// The peer did not give a fact.
    #[error("ask `{peer}` for the fact `{fact}`")]
    Fact {
        /// The peer.
        peer: String,
        /// The fact.
        fact: String,
        /// Why not.
        source: HttpError,
    },
    /// A call was not made.
    #[error("call {target}")]
    Call {
        /// What was called.
        target: String,
        /// Why not.
        source: HttpError,
    },
    /// A call was refused.
    #[error("{target} answered {status}: {said}")]
    Refused {
        /// What was called.
        target: String,
        /// The status code.
        status: u16,
        /// The beginning of the answer, without the values of facts.
        said: String,
    },
    /// All calls were made, and it is no member.
    #[error("all calls were made, and it is still no member: {0}")]
    StillOutside(String),
}

/// Makes the node a member, unless it is one.
pub(crate) async fn join(
    context: &Context,
    tls: &Tls,
    component: &ComponentManifest,
) -> Result<(), JoinError> {
    let membership = component.membership.as_ref();
    let membership = membership.ok_or_else(|| JoinError::None(component.name.to_string()))?;
    if is_member(tls, &membership.member).await.is_ok() {
        return Ok(());
    }
    let facts = gather(context, component, membership).await?;
    for call in &membership.calls {
        make(tls, call, &facts).await?;
    }
    let until = Instant::now() + SETTLE;
    loop {
        match is_member(tls, &membership.member).await {
            Ok(()) => return Ok(()),
            Err(seen) if Instant::now() > until => return Err(JoinError::StillOutside(seen)),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

async fn is_member(tls: &Tls, member: &Assertion) -> Result<(), String> {
    match check(Some(&tls.components), member, ASK).await {
        (Verdict::Ok, _) => Ok(()),
        (_, seen) => Err(seen),
    }
}

type Facts = BTreeMap<String, Value>;

async fn gather(
    context: &Context,
    component: &ComponentManifest,
    membership: &MembershipManifest,
) -> Result<Facts, JoinError> {
    let mut needed = BTreeSet::new();
    for body in membership.calls.iter().filter_map(|call| call.body.as_ref()) {
        named_facts(body, &mut needed);
    }
    let mut facts = Facts::new();
    for name in needed {
        let peer = membership.facts_from.as_ref().ok_or_else(|| JoinError::NobodyKnows(name.clone()))?;
        let value = crate::api::fetch_fact(context, peer, &component.name, &name).await;
        let value = value.map_err(|source| JoinError::Fact {
            peer: peer.name.to_string(),
            fact: name.clone(),
            source,
        })?;
        facts.insert(name, value);
    }
    Ok(facts)
}

async fn make(tls: &Tls, call: &Call, facts: &Facts) -> Result<(), JoinError> {
    let target = format!("{} {}", call.method, call.target.url);
    let body = call.body.as_ref().map(|body| filled(body, facts));
    let ask = Ask { method: &call.method, body: body.as_ref(), timeout: CALL, cap: MOST };
    let answer = request(Some(&tls.components), &call.target, ask).await;
    let answer = answer.map_err(|source| JoinError::Call { target: target.clone(), source })?;
    if accepted(call, answer.status) {
        return Ok(());
    }
    Err(JoinError::Refused { target, status: answer.status, said: told(&answer, facts) })
}

fn accepted(call: &Call, status: u16) -> bool {
    if call.accept.is_empty() { (200..300).contains(&status) } else { call.accept.contains(&status) }
}

/// The beginning of an answer, with the values of facts struck out.
fn told(answer: &Answer, facts: &Facts) -> String {
    let mut said = String::from_utf8_lossy(&answer.body).trim().to_owned();
    for value in facts.values() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !text.is_empty() {
            said = said.replace(&text, "***");
        }
    }
    said.chars().take(200).collect()
}

/// The names of the facts that a body asks for.
fn named_facts(body: &Value, names: &mut BTreeSet<String>) {
    match body {
        Value::String(text) => {
            for rest in text.split(OPEN).skip(1) {
                names.extend(rest.split_once('}').map(|(name, _)| name.to_owned()));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named_facts(item, names)),
        Value::Object(fields) => fields.values().for_each(|field| named_facts(field, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A body with the facts filled in. A string that is one fact and nothing else becomes the fact, whatever its type.
fn filled(body: &Value, facts: &Facts) -> Value {
    match body {
        Value::String(text) => {
            let whole = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix('}'));
            if let Some(value) = whole.and_then(|name| facts.get(name)) {
                return value.clone();
            }
            let filled = facts.iter().fold(text.clone(), |text, (name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.replace(&format!("{OPEN}{name}}}"), &value)
            });
            Value::String(filled)
        }
        Value::Array(items) => items.iter().map(|item| filled(item, facts)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, field)| (key.clone(), filled(field, facts))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => body.clone(),
    }
}

/// Reads a fact from the component of this node.
pub(crate) async fn read_fact(tls: &Tls, call: &Call, pointer: &str) -> Result<Value, String> {
    let ask = Ask { method: &call.method, body: call.body.as_ref(), timeout: ASK, cap: MOST };
    let answer = request(Some(&tls.components), &call.target, ask).await.map_err(|error| chain(&error))?;
    if !accepted(call, answer.status) {
        return Err(format!("the component answered {}", answer.status));
    }
    let value: Value =
        serde_json::from_slice(&answer.body).map_err(|_| "the component's answer is not JSON".to_owned())?;
    value.pointer(pointer).cloned().ok_or_else(|| format!("there is nothing at `{pointer}` in its answer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_found_filled_in_and_struck_out() {
        let body = json!({ "JoinToken": "${fact:token}", "Addrs": ["${fact:host}:2377"], "n": 1 });
        let mut names = BTreeSet::new();
        named_facts(&body, &mut names);
        assert_eq!(names, BTreeSet::from(["host".to_owned(), "token".to_owned()]));
        let facts = Facts::from([("host".into(), json!("10.0.0.1")), ("token".into(), json!("SWMTKN-1-x"))]);
        let full = json!({ "JoinToken": "SWMTKN-1-x", "Addrs": ["10.0.0.1:2377"], "n": 1 });
        assert_eq!(filled(&body, &facts), full);
        let answer = Answer { status: 503, body: "bad token SWMTKN-1-x".into() };
        assert_eq!(told(&answer, &facts), "bad token ***");
    }
}
