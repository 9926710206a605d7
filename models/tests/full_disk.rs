//! A disk that is really full: a small file system in memory, where the user may mount one.

use std::collections::BTreeMap;
use std::process::Command;

use edge_vit_models::{Tensor, checkpoint};

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_file_and_no_litter() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder.path()).output();
    match mounted {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!("skipped: cannot mount a tmpfs here: {}", String::from_utf8_lossy(&output.stderr).trim());
            return;
        }
        Err(error) => {
            println!("skipped: cannot run mount: {error}");
            return;
        }
    }
    let path = folder.path().join("adapters.safetensors");
    let write = |values: usize| {
        let tensors = BTreeMap::from([("head.bias".to_owned(), Tensor::full([values], 1.0).unwrap())]);
        checkpoint::write_safetensors(&path, &tensors, &BTreeMap::new())
    };
    let first = write(10);
    let second = write(1_000_000);
    let kept = checkpoint::read(&path);
    let files = std::fs::read_dir(folder.path()).map(Iterator::count);
    let unmounted = Command::new("umount").arg(folder.path()).status();

    first.unwrap();
    let error = second.unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(kept.unwrap().tensors["head.bias"].len(), 10);
    assert_eq!(files.unwrap(), 1);
    assert!(unmounted.unwrap().success());
}
