//! Which master the node talks to now. All parts of the agent move away from a master together, so that a long poll does
//! not sit on one that the heartbeat has already found dead.

use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::NodeName;
use tokio::sync::watch;

/// The masters other than the node itself, and the one of them that is talked to.
#[derive(Debug)]
pub struct Masters {
    me: NodeName,
    state: watch::Sender<State>,
}

#[derive(Debug, Default, PartialEq)]
struct State {
    list: Vec<Peer>,
    current: usize,
}

impl Masters {
    /// The masters as `me` sees them. Each node begins at another one, so that the load is spread.
    pub fn new(me: &NodeName, masters: &[Peer]) -> Self {
        let this = Self { me: me.clone(), state: watch::Sender::new(State::default()) };
        this.replace(masters);
        this
    }

    /// Another list; the one that is talked to stays if it is in it.
    pub fn replace(&self, masters: &[Peer]) {
        let list: Vec<Peer> = masters.iter().filter(|peer| peer.name != self.me).cloned().collect();
        self.state.send_if_modified(|state| {
            if state.list == list {
                return false;
            }
            let kept = state.list.get(state.current).and_then(|now| list.iter().position(|peer| peer == now));
            let spread =
                self.me.as_str().bytes().fold(0_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
            let current = kept.unwrap_or(spread % list.len().max(1));
            *state = State { list, current };
            true
        });
    }

    /// The one to talk to; `None` if there is no other master.
    pub fn current(&self) -> Option<Peer> {
        let state = self.state.borrow();
        state.list.get(state.current).cloned()
    }

    /// All others, beginning with the one to talk to.
    pub fn all(&self) -> Vec<Peer> {
        let state = self.state.borrow();
        let (before, after) = state.list.split_at(state.current.min(state.list.len()));
        after.iter().chain(before).cloned().collect()
    }

    /// `peer` did not do what it should: the next one is talked to, unless somebody has moved on already.
    pub fn failed(&self, peer: &Peer) {
        self.state.send_if_modified(|state| {
            let is_current = state.list.get(state.current) == Some(peer);
            if is_current {
                state.current = (state.current + 1) % state.list.len();
            }
            is_current && state.list.len() > 1
        });
    }

    /// Ends when another master than `peer` is to be talked to.
    pub async fn left(&self, peer: &Peer) {
        let mut state = self.state.subscribe();
        // The sender lives as long as we do.
        drop(state.wait_for(|state| state.list.get(state.current) != Some(peer)).await);
    }

    /// Ends when there is a master to talk to.
    pub async fn any(&self) -> Peer {
        let mut state = self.state.subscribe();
        loop {
            if let Some(peer) = self.current() {
                return peer;
            }
            drop(state.changed().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Vec<Peer> {
        let peer = |name: &&str| Peer { name: name.parse().unwrap(), address: [127, 0, 0, 1].into() };
        names.iter().map(peer).collect()
    }

    #[test]
    fn the_next_one_follows_a_failed_one_once() {
        let list = peers(&["m-1", "m-2", "m-3"]);
        let masters = Masters::new(&"a-1".parse().unwrap(), &list);
        let first = masters.current().unwrap();
        masters.failed(&first);
        let second = masters.current().unwrap();
        assert_ne!(first, second);
        masters.failed(&first);
        assert_eq!(masters.current().unwrap(), second, "a late complaint about the first moves nothing");
        assert_eq!(masters.all().len(), 3);
        assert_eq!(masters.all()[0], second);
    }

    #[test]
    fn a_new_list_keeps_the_one_that_is_talked_to() {
        let masters = Masters::new(&"m-2".parse().unwrap(), &peers(&["m-1", "m-2", "m-3"]));
        let now = masters.current().unwrap();
        assert_eq!(masters.all().len(), 2, "never itself");
        masters.replace(&peers(&["m-0", "m-1", "m-2", "m-3"]));
        assert_eq!(masters.current().unwrap(), now);
        masters.replace(&peers(&["m-0"]));
        assert_eq!(masters.current().unwrap().name.as_str(), "m-0");
        masters.replace(&[]);
        assert_eq!(masters.current(), None);
    }
}
