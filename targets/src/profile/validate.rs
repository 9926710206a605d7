//! What a profile has to hold to, field by field.

use edge_vit_models::backbone::Architecture;

use super::{Cpu, Estimate, Instructions, Model, Profile, ProfileError, Recipe, Version};

/// Rust's targets that the program is built for, with Debian's name of the architecture.
pub(super) const TARGETS: [(&str, &str); 3] = [
    ("aarch64-unknown-linux-gnu", "arm64"),
    ("x86_64-unknown-linux-gnu", "amd64"),
    ("armv7-unknown-linux-gnueabihf", "armhf"),
];
/// Rust's standard library needs this glibc.
const OLDEST_GLIBC: Version = Version::new(2, 17);

type Checked = Result<(), (&'static str, String)>;

/// Checks all fields.
pub(super) fn profile(profile: &Profile, origin: &str) -> Result<(), ProfileError> {
    let checks = || {
        identifier("id", &profile.id)?;
        one_line("name", &profile.name)?;
        target(&profile.triple, &profile.debian_arch)?;
        glibc(profile.glibc)?;
        cpu(&profile.cpu, &profile.debian_arch)?;
        at_least_one("cores", profile.cores)?;
        at_least_one("memory_mib", profile.memory_mib)?;
        models(&profile.models, &profile.cpu, profile.memory_mib)?;
        profile.images.iter().try_for_each(recipe)
    };
    checks().map_err(|(field, wrong)| ProfileError::Field { origin: origin.to_owned(), field, wrong })
}

/// A word that is safe as a file's name, as a package's name and on a command line.
fn identifier(field: &'static str, text: &str) -> Checked {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(sound) {
        return Ok(());
    }
    Err((field, format!("is {text:?}; expected a letter, then letters in lower case, digits and `-`")))
}

fn one_line(field: &'static str, text: &str) -> Checked {
    if !text.trim().is_empty() && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err((field, format!("is {text:?}; expected one line of text")))
}

fn target(triple: &str, debian_arch: &str) -> Checked {
    let Some((_, expected)) = TARGETS.iter().find(|(known, _)| *known == triple) else {
        let known = TARGETS.map(|(known, _)| known).join(", ");
        return Err(("triple", format!("is {triple:?}; expected one of {known}")));
    };
    if debian_arch == *expected {
        return Ok(());
    }
    Err(("debian_arch", format!("is {debian_arch:?}; for {triple} it is {expected:?}")))
}

fn glibc(version: Version) -> Checked {
    if version >= OLDEST_GLIBC && version.major == OLDEST_GLIBC.major {
        return Ok(());
    }
    Err(("glibc", format!("is {version}; expected {OLDEST_GLIBC} or a later one of glibc {}", OLDEST_GLIBC.major)))
}

fn cpu(cpu: &Cpu, debian_arch: &str) -> Checked {
    identifier("cpu.target", &cpu.target)?;
    for feature in &cpu.features {
        let Some(name) = feature.strip_prefix(['+', '-']) else {
            return Err(("cpu.features", format!("holds {feature:?}; expected `+` or `-` before each name")));
        };
        identifier("cpu.features", name)?;
    }
    if debian_arch != "arm64" && !cpu.kernels.is_empty() {
        return Err(("cpu.kernels", format!("holds instructions that only arm64 has, on {debian_arch}")));
    }
    if cpu.kernels.contains(&Instructions::DotProd) && !cpu.kernels.contains(&Instructions::Fp16) {
        return Err(("cpu.kernels", "has \"dotprod\" without \"fp16\"; no processor of these boards does".into()));
    }
    at_least_one("cpu.mhz", cpu.mhz)?;
    at_least_one("cpu.flops_per_cycle", cpu.flops_per_cycle)
}

fn at_least_one(field: &'static str, number: u32) -> Checked {
    if number > 0 { Ok(()) } else { Err((field, "is 0; expected at least 1".into())) }
}

fn models(models: &[Model], cpu: &Cpu, memory_mib: u32) -> Checked {
    const FIELD: &str = "models";
    if models.is_empty() {
        return Err((FIELD, "is empty; expected at least one model that suits the board".into()));
    }
    for model in models {
        let architecture = Architecture::named(&model.architecture).map_err(|error| (FIELD, error.to_string()))?;
        let (size, step) = (model.size as usize, architecture.config([model.size as usize; 2]).image_step());
        if size == 0 || !size.is_multiple_of(step) {
            return Err((
                FIELD,
                format!("has pictures of {size} pixels; {} takes multiples of {step}", architecture.name),
            ));
        }
        let estimate = Estimate::new(model, cpu).map_err(|error| (FIELD, error.to_string()))?;
        if estimate.memory_mib > f64::from(memory_mib) / 2.0 {
            let (name, need) = (architecture.name, estimate.memory_mib);
            return Err((
                FIELD,
                format!("holds {name}, which needs some {need:.0} MiB: more than half of the board's"),
            ));
        }
    }
    Ok(())
}

fn recipe(recipe: &Recipe) -> Checked {
    const FIELD: &str = "images";
    let named = |what: &str, names: &[String]| match names {
        [] => Err((FIELD, format!("has a recipe without {what}"))),
        names => names.iter().try_for_each(|name| identifier(FIELD, name)),
    };
    match recipe {
        Recipe::RaspberryPiOs { releases } => named("releases", releases),
        Recipe::Debian { release, packages } => {
            identifier(FIELD, release)?;
            named("packages", packages)
        }
        Recipe::JetsonLinux { jetpack, l4t } => {
            at_least_one(FIELD, *jetpack)?;
            one_line(FIELD, l4t)
        }
    }
}
