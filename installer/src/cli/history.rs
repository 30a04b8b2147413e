//! `events` and `timeline`: what the journal tells.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use castrum_blueprints::event::{Event, What};
use castrum_blueprints::names::{NodeName, Timestamp};
use castrum_provider::Clock as _;
use rustix::fs::inotify;

use super::args::{Events, Format, Global, Timeline};
use super::context::Context;
use super::fault::{Fault, code};
use super::output::{is_closed, note, opts, print, print_json};
use crate::clock::SystemClock;
use crate::project::{Project, runs, write_whole};
use crate::view::events_view::{EventFilter, event_line, events_ndjson, events_text};
use crate::view::timeline_view::{timeline, timeline_json, timeline_svg, timeline_text};

/// `castrum events`.
pub(super) async fn events(args: &Events, global: &Global) -> Result<u8, Fault> {
    let project = project(&args.blueprint.file)?;
    let node: Option<NodeName> =
        args.node.as_deref().map(str::parse).transpose().map_err(|error| Fault::of(code::USAGE, &error))?;
    let mut filter = EventFilter { node, ..EventFilter::default() };
    let mut events = journal(&project)?;
    if !args.all {
        filter.run = events.last().map(|event| event.run.clone());
    }
    show(&events, &filter, global);
    if !args.follow {
        return Ok(code::DONE);
    }
    let changed = Changes::of(&project)?;
    loop {
        // A run that begins now is followed too.
        filter.run = None;
        changed.wait().await;
        let newer = journal(&project)?;
        let fresh = newer.get(events.len()..).unwrap_or_default();
        let started = newer.iter().rfind(|event| matches!(event.what, What::RunStarted { .. }));
        let started = started.map_or(Timestamp(0), |event| event.at);
        match global.output {
            Format::Table => {
                let lines = fresh.iter().filter(|event| filter.matches(event));
                let lines: Vec<String> =
                    lines.filter_map(|event| event_line(event, started, &opts(global, event.at))).collect();
                for line in lines {
                    print(&format!("{line}\n"));
                }
            }
            _ => print(&events_ndjson(fresh, &filter)),
        }
        if is_closed() {
            return Ok(code::DONE);
        }
        events = newer;
    }
}

fn show(events: &[Event], filter: &EventFilter, global: &Global) {
    match global.output {
        Format::Table if events.is_empty() => note("there are no events yet\n"),
        Format::Table => print(&events_text(events, filter, &opts(global, SystemClock.now()))),
        Format::Json | Format::Yaml => print(&events_ndjson(events, filter)),
    }
}

/// The project of a blueprint. What happened is shown also where the blueprint is wrong by now, as the folder knows it.
fn project(file: &Path) -> Result<Arc<Project>, Fault> {
    match Context::load(file) {
        Ok(context) => Ok(context.project),
        Err(fault) if fault.code == code::BLUEPRINT => {
            let project = Project::of(file);
            if project.read_blueprint().is_ok() {
                note("note: the blueprint is wrong, so this is the journal of its own folder\n");
            }
            Ok(Arc::new(project))
        }
        Err(fault) => Err(fault),
    }
}

fn journal(project: &Project) -> Result<Vec<Event>, Fault> {
    let (events, skipped) = project.events()?;
    if skipped > 0 {
        let what = if skipped == 1 { "line" } else { "lines" };
        note(&format!("note: {skipped} {what} of the journal cannot be read, and left out here\n"));
    }
    Ok(events)
}

/// Changes of the journal: told by the system, or looked for in the place of the state.
enum Changes {
    Told(Arc<OwnedFd>),
    LookedFor,
}

/// A place of state is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Changes {
    fn of(project: &Project) -> Result<Self, Fault> {
        if project.shared().is_some() {
            return Ok(Self::LookedFor);
        }
        let path = project.journal_path();
        let watch = || -> std::io::Result<Self> {
            let folder = path.parent().unwrap_or(Path::new("."));
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            inotify::add_watch(&fd, folder, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE)?;
            Ok(Self::Told(Arc::new(fd)))
        };
        watch()
            .map_err(|error| Fault::new(code::ERROR, format!("cannot watch `{}`: {error}", path.display())))
    }

    async fn wait(&self) {
        let Self::Told(fd) = self else {
            // Of a simulated cluster, the time of tasks is virtual.
            let _ = tokio::task::spawn_blocking(|| std::thread::sleep(LOOK_AGAIN)).await;
            return;
        };
        let fd = Arc::clone(fd);
        // The read blocks until something changes; it ends with the process.
        let _ = tokio::task::spawn_blocking(move || rustix::io::read(&fd, &mut [0; 4096])).await;
        // Several lines are usually written together.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `castrum timeline`.
pub(super) fn show_timeline(args: &Timeline, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    let all = runs(journal(&context.project)?);
    let is_apply = |run: &&Vec<Event>| {
        matches!(&run[0].what, What::RunStarted { verb, .. } if verb == "apply")
            && run.iter().any(|event| matches!(event.what, What::StepStarted { .. }))
    };
    let chosen = match &args.run {
        Some(id) => all.iter().find(|run| run[0].run == *id),
        None => all.iter().rfind(is_apply).or(all.last()),
    };
    let timeline = chosen.and_then(|run| timeline(run, Some(&context.stack))).ok_or_else(|| {
        Fault::new(code::ERROR, "there is no such run in the journal")
            .hint("`castrum events --all` lists the runs")
    })?;
    if let Some(path) = &args.svg {
        write_whole(path, timeline_svg(&timeline).as_bytes(), 0o644).map_err(|error| {
            Fault::new(code::ERROR, format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    match global.output {
        Format::Table => print(&timeline_text(&timeline, &opts(global, SystemClock.now()))),
        format => print_json(&timeline_json(&timeline), format),
    }
    Ok(code::DONE)
}
