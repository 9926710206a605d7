//! What a program for a board is and needs, read from the file itself.

use object::elf;
use object::read::elf::{ElfFile, ElfFile32, ElfFile64, FileHeader};
use object::{Architecture, Object as _, ObjectSection as _, SectionFlags};

use super::BuildError;
use crate::profile::Version;

/// What a program is and needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The processor, by the first word of Rust's triple.
    pub architecture: &'static str,
    /// The newest version of glibc that a symbol of it asks for, with such a symbol.
    pub glibc: Option<(Version, String)>,
    /// How many half-precision multiply-adds of vectors it holds (arm64).
    pub fp16: usize,
    /// How many dot products of bytes it holds (arm64).
    pub dot_products: usize,
}

/// An instruction of arm64: the bits that tell it from others, and their value.
type Encoding = (u32, u32);
/// `FMLA Vd.8H, Vn.8H, Vm.8H` and the same by one element.
const FMLA_HALF: [Encoding; 2] = [(0xffe0_fc00, 0x4e40_0c00), (0xffc0_f400, 0x4f00_1000)];
/// `SDOT Vd.4S, Vn.16B, Vm.16B` and the same by one element.
const SDOT: [Encoding; 2] = [(0xffe0_fc00, 0x4e80_9400), (0xffc0_f400, 0x4f80_e000)];

/// Looks into a program.
///
/// # Errors
/// [`BuildError::Elf`] if it is none, or damaged.
pub fn inspect(bytes: &[u8]) -> Result<Inspected, BuildError> {
    match object::FileKind::parse(bytes)? {
        object::FileKind::Elf32 => look(&ElfFile32::<object::Endianness>::parse(bytes)?),
        _ => look(&ElfFile64::<object::Endianness>::parse(bytes)?),
    }
}

/// The processor that a program is for, by the first word of Rust's triple.
///
/// # Errors
/// [`BuildError::Elf`] if it is no program, or damaged.
pub(crate) fn architecture(bytes: &[u8]) -> Result<&'static str, BuildError> {
    Ok(name(object::File::parse(bytes)?.architecture()))
}

fn name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Aarch64 => "aarch64",
        Architecture::X86_64 => "x86_64",
        Architecture::Arm => "armv7",
        _ => "another processor",
    }
}

fn look<Header: FileHeader<Endian = object::Endianness>>(file: &ElfFile<'_, Header>) -> Result<Inspected, BuildError> {
    let architecture = name(file.architecture());
    let (mut fp16, mut dot_products) = (0, 0);
    if architecture == "aarch64" {
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            if sh_flags.contains(elf::SHF_EXECINSTR) {
                let code = section.data()?;
                fp16 += count(code, &FMLA_HALF);
                dot_products += count(code, &SDOT);
            }
        }
    }
    Ok(Inspected { architecture, glibc: newest_glibc(file)?, fp16, dot_products })
}

fn count(code: &[u8], encodings: &[Encoding]) -> usize {
    let words = code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    words.filter(|word| encodings.iter().any(|(mask, value)| word & mask == *value)).count()
}

/// The newest version of glibc that the loader will ask for, with a symbol that has it.
fn newest_glibc<Header: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'_, Header>,
) -> Result<Option<(Version, String)>, BuildError> {
    let (endian, data, sections) = (file.endian(), file.data(), file.elf_section_table());
    let Some((mut needs, strings)) = sections.gnu_verneed(endian, data)? else { return Ok(None) };
    let strings = sections.strings(endian, data, strings)?;
    let mut newest: Option<(Version, elf::VersionIndex, String)> = None;
    while let Some((_, mut versions)) = needs.next()? {
        while let Some(need) = versions.next()? {
            let name = String::from_utf8_lossy(need.name(endian, strings)?);
            let known = newest.as_ref().map(|(version, ..)| *version);
            if let Some(version) = glibc_version(&name).filter(|version| known.is_none_or(|known| *version > known)) {
                newest = Some((version, need.vna_other(endian).index(), name.into_owned()));
            }
        }
    }
    let Some((version, index, name)) = newest else { return Ok(None) };
    let symbols = file.elf_dynamic_symbol_table();
    let table = sections.versions(endian, data)?;
    let has = |at| table.as_ref().is_some_and(|table| table.version_index(endian, at).index() == index);
    let symbol = match symbols.enumerate().find(|(at, _)| has(*at)) {
        Some((_, symbol)) => String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned(),
        None => name,
    };
    Ok(Some((version, symbol)))
}

/// The version that the name of a version stands for. One of three numbers is older than all that matter.
fn glibc_version(name: &str) -> Option<Version> {
    match name {
        // Relocations in a form that older loaders do not know.
        "GLIBC_ABI_DT_RELR" => Some(Version::new(2, 36)),
        name => name.strip_prefix("GLIBC_")?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::check;
    use crate::profile;

    /// This very test: a program of this machine.
    #[test]
    fn a_program_tells_its_processor_and_the_glibc_that_it_needs() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let inspected = inspect(&bytes).unwrap();
        assert_eq!(inspected.architecture, std::env::consts::ARCH);
        let (version, symbol) = inspected.glibc.clone().unwrap();
        assert!(version > Version::new(2, 16) && !symbol.is_empty(), "{version} {symbol}");

        let mut board = profile::find(&format!("generic-{}", std::env::consts::ARCH), &[]).unwrap();
        board.glibc = version;
        check(&board, &inspected).unwrap();
        board.glibc = Version::new(version.major, version.minor - 1);
        let message = check(&board, &inspected).unwrap_err().to_string();
        assert!(message.contains(&format!("glibc {version} for `{symbol}`")), "{message}");
    }

    #[test]
    fn versions_are_told_by_their_names() {
        let version = |name| glibc_version(name).map(|version| version.to_string());
        assert_eq!(version("GLIBC_2.27").as_deref(), Some("2.27"));
        assert_eq!(version("GLIBC_ABI_DT_RELR").as_deref(), Some("2.36"));
        assert_eq!([version("GLIBC_2.2.5"), version("GLIBC_PRIVATE"), version("GCC_4.2.0")], [None, None, None]);
    }

    #[test]
    fn another_processor_and_missing_kernels_are_refused() {
        let pi = profile::find("raspberry-pi-5", &[]).unwrap();
        let sound = Inspected { architecture: "aarch64", glibc: None, fp16: 9, dot_products: 9 };
        check(&pi, &sound).unwrap();
        let refused = |inspected| check(&pi, &inspected).unwrap_err();
        assert!(matches!(
            refused(Inspected { architecture: "x86_64", ..sound.clone() }),
            BuildError::Architecture { .. }
        ));
        assert!(refused(Inspected { fp16: 0, ..sound.clone() }).to_string().contains("half-precision"));
        assert!(refused(Inspected { dot_products: 0, ..sound }).to_string().contains("dot-product"));
    }

    #[test]
    fn instructions_are_told_by_their_bits() {
        // fmla v16.8h, v0.8h, v8.h[0]; fmla v0.8h, v1.8h, v2.8h; sdot v0.4s, v1.16b, v2.4b[0]; sdot v0.4s, v1.16b, v2.16b;
        // fmla v0.4s, v1.4s, v2.4s; fmla v16.4s, v0.4s, v8.s[0].
        let words = [0x4f08_1010u32, 0x4e42_0c20, 0x4f82_e020, 0x4e82_9420, 0x4e22_cc20, 0x4f88_1010];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((count(&code, &FMLA_HALF), count(&code, &SDOT)), (2, 2));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(matches!(inspect(b"MZ no program"), Err(BuildError::Elf(_))));
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(inspect(&bytes[..40]).is_err());
    }
}
