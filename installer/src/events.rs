//! Events on their way from the engine to whoever listens.

use std::sync::{Arc, Mutex, PoisonError};

use castrum_blueprints::event::{EVENT_FORMAT, Event, What};
use castrum_provider::Clock;

/// Someone who is told what happens.
pub trait Listener: Send {
    /// Is told one event.
    fn hear(&mut self, event: &Event);
}

/// Where the engine says what happens. Clones speak to the same listeners, in one order.
#[derive(Clone)]
pub struct Events {
    run: Arc<str>,
    clock: Arc<dyn Clock>,
    listeners: Arc<Mutex<Vec<Box<dyn Listener>>>>,
}

impl Events {
    /// Events of the run `run`.
    pub fn new(run: &str, clock: Arc<dyn Clock>, listeners: Vec<Box<dyn Listener>>) -> Self {
        Self { run: run.into(), clock, listeners: Arc::new(Mutex::new(listeners)) }
    }

    /// Tells every listener.
    pub fn say(&self, what: What) {
        let event =
            Event { format_version: EVENT_FORMAT, at: self.clock.now(), run: self.run.to_string(), what };
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            listener.hear(&event);
        }
    }
}
