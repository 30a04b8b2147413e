//! Power control of machines.

use async_trait::async_trait;
use aws_sdk_ec2::types::InstanceStateName;
use castrum_blueprints::names::ResourcePath;
use castrum_provider::{Failure, FailureClass, Power, PowerState};

use crate::failure::fault;
use crate::machine::{find, power};
use crate::place::{Pauses, Place};

#[async_trait]
impl Power for Place {
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure> {
        Ok(power(&find(self, machine).await?.it))
    }

    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure> {
        let lock = self.lock_of(machine);
        let _held = lock.lock().await;
        match wanted {
            PowerState::On => start(self, machine).await,
            PowerState::Off => stop(self, machine, false).await,
            PowerState::Paused | PowerState::Unknown => {
                let text = format!("`{machine}` can be on and off here, and nothing else");
                Err(Failure::new(FailureClass::Unsupported, text))
            }
        }
    }

    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure> {
        let lock = self.lock_of(machine);
        let _held = lock.lock().await;
        stop(self, machine, true).await
    }
}

async fn start(place: &Place, machine: &ResourcePath) -> Result<(), Failure> {
    let (mut pauses, mut asked) = (Pauses::new(), false);
    loop {
        let instance = find(place, machine).await?;
        match instance.it.state().and_then(|state| state.name()) {
            Some(InstanceStateName::Running) => return Ok(()),
            Some(InstanceStateName::Stopped) if !asked => {
                let call = place.ec2.start_instances().instance_ids(&instance.id);
                call.send().await.map_err(fault("StartInstances"))?;
                asked = true;
            }
            _ => {}
        }
        pauses.pause(|| format!("`{machine}` is not running yet")).await?;
    }
}

/// Stops the machine: asks its system to shut down, or takes the power away.
async fn stop(place: &Place, machine: &ResourcePath, at_once: bool) -> Result<(), Failure> {
    let (mut pauses, mut asked) = (Pauses::new(), false);
    loop {
        let instance = find(place, machine).await?;
        let state = instance.it.state().and_then(|state| state.name());
        if state == Some(&InstanceStateName::Stopped) {
            return Ok(());
        }
        // One that is stopping may hang in that; pulling the plug ends it.
        if !asked && (state == Some(&InstanceStateName::Running) || at_once) {
            let call = place.ec2.stop_instances().instance_ids(&instance.id).force(at_once);
            call.send().await.map_err(fault("StopInstances"))?;
            asked = true;
        }
        pauses.pause(|| format!("`{machine}` is not off yet")).await?;
    }
}
