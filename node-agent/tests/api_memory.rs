//! What streaming a large blob takes of memory. Alone in its process, because it looks at the whole of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "api/world.rs"]
#[expect(dead_code, unused_imports, reason = "the other tests of the API need the rest")]
mod world;

use std::fs;
use std::io::Read as _;
use std::time::Instant;

use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::Digest;

use world::World;

const SIZE: u64 = 200 << 20;

fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_blob_of_200_mib_takes_a_few_of_memory_at_both_ends() {
    let world = World::new(1);
    let master = world.master(1).await;
    let node = world.agent(7).await;
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mebibyte = vec![7; 1 << 20];
    (0..SIZE >> 20).for_each(|_| hash.update(&mebibyte));
    let digest = Digest::from_bytes(hash.finish().as_ref().try_into().unwrap());
    master.ctx.depot.put(&digest, &mut std::io::repeat(7).take(SIZE)).unwrap();

    let before = memory("VmRSS:");
    // Forgets the highest mark of memory so far.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let begun = Instant::now();
    node.ctx.depot.fetch(&Blob { digest, size: SIZE }).await.unwrap();
    let grown = memory("VmHWM:").saturating_sub(before);
    println!("200 MiB in {:?}, both ends together grew by {} KiB", begun.elapsed(), grown >> 10);
    assert!(grown < 8 << 20, "{grown} bytes");
}
