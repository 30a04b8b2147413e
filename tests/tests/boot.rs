//! What new machines run at their first boot, run here on devices of this machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use castrum_blueprints::boot::{BootDisk, DISKS_SCRIPT};

/// A loop device on a file, as long as the test lasts.
struct Device(String);

impl Device {
    fn on(file: &Path) -> Self {
        fs::File::create(file).and_then(|made| made.set_len(32 << 20)).expect("a file");
        let made =
            Command::new("losetup").args(["--find", "--show"]).arg(file).output().expect("losetup runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(String::from_utf8_lossy(&made.stdout).trim().to_owned())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // In mount namespaces that have ended nothing holds it any more.
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Runs the script, and `then` in the same mount namespace, of which nothing is left.
fn run(dir: &Path, seconds: &str, then: &str) -> Output {
    let script =
        format!("mount --make-rprivate / && python3 disks.py disks.json devices fstab {seconds} && {then}");
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(dir)
        .output()
        .expect("unshare runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The beginning of a disk with one partition (MBR), and nothing of a file system after it.
fn partitions() -> Vec<u8> {
    let mut disk = vec![0; 4 << 20];
    disk[446 + 4] = 0x83;
    disk[446 + 8..446 + 16].copy_from_slice(&[0, 8, 0, 0, 0, 32, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn a_volume_is_mounted_where_it_belongs_and_keeps_what_it_holds() {
    let dir = tempfile::tempdir().expect("a folder");
    let (root, mount) = (dir.path(), dir.path().join("data"));
    fs::create_dir(root.join("devices")).expect("a folder");
    fs::write(root.join("disks.py"), DISKS_SCRIPT).expect("the script");
    let disk = BootDisk { volume: "vol-0a1b2c".to_owned(), mount: mount.display().to_string() };
    fs::write(root.join("disks.json"), serde_json::to_vec(&[disk]).expect("plain data")).expect("a file");

    let missing = run(root, "1", "true");
    assert_eq!(missing.status.code(), Some(1), "{}", said(&missing));
    assert!(said(&missing).contains("volume vol-0a1b2c is not on"), "{}", said(&missing));

    let device = Device::on(&root.join("image"));
    let link = "devices/nvme-Amazon_Elastic_Block_Store_vol0a1b2c";
    symlink(&device.0, root.join(link)).expect("a link");
    let first = run(root, "5", "mountpoint data && echo kept > data/word");
    assert!(first.status.success(), "{}", said(&first));
    let again = run(root, "5", "cat data/word");
    assert!(again.status.success() && said(&again).contains("kept"), "{}", said(&again));
    let fstab = fs::read_to_string(root.join("fstab")).expect("a file");
    assert_eq!(fstab.lines().count(), 1, "{fstab}");
    assert!(fstab.contains(" ext4 defaults,nofail "), "{fstab}");

    // What holds something else is left alone.
    fs::write(&device.0, partitions()).expect("the device can be written");
    let other = run(root, "5", "true");
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));
    assert!(said(&other).contains("is left as it is"), "{}", said(&other));
}
