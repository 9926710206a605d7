use std::fs;
use std::path::PathBuf;

use super::read::SHIPPED;
use super::*;

fn shipped() -> Vec<Profile> {
    all(&[]).unwrap()
}

fn text(id: &str) -> &'static str {
    SHIPPED.iter().find(|(known, _)| *known == id).unwrap().1
}

#[test]
fn every_shipped_profile_is_sound_and_has_the_name_of_its_file() {
    for ((id, _), profile) in SHIPPED.iter().zip(shipped()) {
        assert_eq!(*id, profile.id);
    }
}

#[test]
fn every_file_of_the_folder_is_shipped() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("boards");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    files.sort();
    let mut shipped: Vec<_> = SHIPPED.iter().map(|(id, _)| format!("{id}.toml")).collect();
    shipped.sort();
    assert_eq!(files, shipped);
}

/// The compiler's model of a Cortex-A53, A57 or A72 has instructions for cryptography, which Broadcom left out. A program that
/// counts on them ends on those boards with an illegal instruction.
#[test]
fn boards_without_cryptography_do_not_count_on_it() {
    for profile in shipped() {
        let without = ["-aes", "-sha2"].iter().all(|feature| profile.cpu.features.iter().any(|have| have == feature));
        let broadcom = ["raspberry-pi-zero-2-w", "raspberry-pi-3", "raspberry-pi-4"].contains(&profile.id.as_str());
        assert_eq!(without, broadcom, "{}", profile.id);
    }
}

#[test]
fn only_processors_that_have_them_use_half_precision_and_dot_products() {
    for profile in shipped() {
        let expected: &[Instructions] = match profile.cpu.target.as_str() {
            "cortex-a76" | "cortex-a78ae" => &[Instructions::Fp16, Instructions::DotProd],
            "carmel" => &[Instructions::Fp16],
            _ => &[],
        };
        assert_eq!(profile.cpu.kernels, expected, "{}", profile.id);
    }
}

#[test]
fn an_unknown_board_is_answered_with_those_that_are_known() {
    let message = find("raspberry-pi-6", &[]).unwrap_err().to_string();
    assert!(message.contains("raspberry-pi-6") && message.contains("raspberry-pi-5, jetson-nano"), "{message}");
}

#[test]
fn folders_add_boards_and_take_the_place_of_shipped_ones() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("mine.toml", &text("raspberry-pi-5").replace("raspberry-pi-5", "mine"));
    write("raspberry-pi-4.toml", &text("raspberry-pi-4").replace("cores = 4", "cores = 2"));
    write("notes.txt", "no profile");
    let folders = [folder.path().to_owned()];
    assert_eq!(all(&folders).unwrap().len(), SHIPPED.len() + 1);
    assert_eq!(find("mine", &folders).unwrap().triple, "aarch64-unknown-linux-gnu");
    assert_eq!(find("raspberry-pi-4", &folders).unwrap().cores, 2);

    write("other.toml", text("raspberry-pi-5"));
    let message = all(&folders).unwrap_err().to_string();
    assert!(message.contains("other.toml") && message.contains("raspberry-pi-5"), "{message}");
    let missing = [folder.path().join("missing")];
    assert!(matches!(all(&missing), Err(ProfileError::Read { .. })));
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_field() {
    let refused = [
        ("glibc = \"2.31\"", "glibc = \"2.12\"", "`glibc`"),
        ("glibc = \"2.31\"", "glibc = \"3.1\"", "`glibc`"),
        ("debian_arch = \"arm64\"", "debian_arch = \"amd64\"", "`debian_arch`"),
        ("triple = \"aarch64-unknown-linux-gnu\"", "triple = \"aarch64-unknown-linux-musl\"", "`triple`"),
        ("id = \"raspberry-pi-4\"", "id = \"Raspberry Pi\"", "`id`"),
        ("cores = 4", "cores = 0", "`cores`"),
        ("\"-aes\"", "\"aes\"", "`cpu.features`"),
        ("\"-aes\"", "\"-aes -C link-arg=x\"", "`cpu.features`"),
        ("target = \"cortex-a72\"", "target = \"cortex-a72 -C\"", "`cpu.target`"),
        ("size = 98", "size = 99", "`models`"),
        ("vit_small_patch14_dinov2", "vit_great", "`models`"),
        ("memory_mib = 1024", "memory_mib = 64", "`models`"),
    ];
    for (sound, wrong, field) in refused {
        let changed = text("raspberry-pi-4").replacen(sound, wrong, 1);
        assert_ne!(changed, text("raspberry-pi-4"), "{sound} is not in the profile");
        let error = Profile::parse(&changed, "board.toml").unwrap_err();
        assert!(matches!(error, ProfileError::Field { .. }), "{wrong}: {error:?}");
        assert!(error.to_string().starts_with(&format!("board.toml: {field}")), "{wrong}: {error}");
    }
    for wrong in ["speed = 3\n", "glibc = 2.31\n"] {
        let error = Profile::parse(&format!("{wrong}{}", text("raspberry-pi-4")), "board.toml").unwrap_err();
        assert!(matches!(error, ProfileError::Syntax { .. }), "{wrong}: {error:?}");
    }
}

/// ViT-S/16 at 224 pixels: 4.6 billion multiplications with their additions, 22 million parameters.
#[test]
fn estimates_are_of_the_published_size() {
    let cpu = find("raspberry-pi-4", &[]).unwrap().cpu;
    let estimate = Estimate::new(&Model { architecture: "vit_small_patch16_224".into(), size: 224 }, &cpu).unwrap();
    assert!((9.0..9.5).contains(&estimate.gflop), "{estimate:?}");
    assert!((128.0..134.0).contains(&estimate.memory_mib), "{estimate:?}");
    let peak = f64::from(cpu.mhz * cpu.flops_per_cycle) / 1e3;
    assert!((estimate.milliseconds - estimate.gflop / peak * 2e3).abs() < 1e-6);
}
