//! Every view of a small cluster word by word, of an empty one, of a hostile one and of a large one.

mod gates;
mod golden;
mod hostile;
mod large;
mod screens;
mod timelines;
mod units;
mod world;
