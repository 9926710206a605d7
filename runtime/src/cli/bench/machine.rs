//! What the machine tells of itself: its kind, whether its processor is held back, and what it draws.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Between two looks at the sensors: some hang on slow buses.
const INTERVAL: Duration = Duration::from_millis(100);

/// What two machines have in common whose times can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kind {
    pub(super) architecture: String,
    /// The board's name where it has one, else the processor's.
    pub(super) processor: String,
    pub(super) cores: usize,
}

/// How the processor was while it worked. What the system does not tell is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Processor {
    /// The lowest frequency seen of any core, as a share of its highest.
    pub(super) lowest_frequency: Option<f64>,
    /// Whether it was held back for its heat or its supply.
    pub(super) throttled: Option<bool>,
    pub(super) hottest_celsius: Option<f64>,
}

/// What a sensor of the board measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Power {
    pub(super) sensor: String,
    pub(super) watts: f64,
    pub(super) joules_a_picture: f64,
}

impl Display for Processor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let frequency =
            self.lowest_frequency.map(|share| format!("at {:.0} % of its frequency or more", 100.0 * share));
        let throttled = self.throttled.map(|held| if held { "HELD BACK" } else { "not held back" }.to_owned());
        let heat = self.hottest_celsius.map(|celsius| format!("{celsius:.0} °C at most"));
        let told: Vec<_> = [throttled, frequency, heat].into_iter().flatten().collect();
        if told.is_empty() { f.write_str("tells nothing of itself") } else { f.write_str(&told.join(", ")) }
    }
}

/// The files in which Linux tells it.
pub(super) struct Machine {
    root: PathBuf,
    /// The present frequency of each core, and its highest in kHz.
    frequencies: Vec<(PathBuf, f64)>,
    /// How often a core was throttled so far.
    throttles: Vec<PathBuf>,
    temperatures: Vec<PathBuf>,
    sensors: Vec<(String, Sensor)>,
}

/// Where a power can be read.
enum Sensor {
    /// In microwatts.
    Power(PathBuf),
    /// In millivolts and milliamperes.
    VoltageAndCurrent(PathBuf, PathBuf),
}

impl Machine {
    /// The machine whose files lie below `root`.
    pub(super) fn new(root: &Path) -> Self {
        let cores = numbered(&root.join("sys/devices/system/cpu"), "cpu");
        let frequencies = cores.iter().filter_map(|core| {
            let highest = number(&core.join("cpufreq/cpuinfo_max_freq")).filter(|highest| *highest > 0.0)?;
            Some((core.join("cpufreq/scaling_cur_freq"), highest))
        });
        let zones = numbered(&root.join("sys/class/thermal"), "thermal_zone");
        Self {
            frequencies: frequencies.collect(),
            throttles: cores.iter().map(|core| core.join("thermal_throttle/core_throttle_count")).collect(),
            temperatures: zones.iter().map(|zone| zone.join("temp")).collect(),
            sensors: numbered(&root.join("sys/class/hwmon"), "hwmon").iter().flat_map(|chip| sensors(chip)).collect(),
            root: root.to_owned(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        let board = text(&self.root.join("proc/device-tree/model"));
        let processor = || {
            let info = text(&self.root.join("proc/cpuinfo"))?;
            let line = info.lines().find_map(|line| line.strip_prefix("model name"))?;
            Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        Kind {
            architecture: std::env::consts::ARCH.to_owned(),
            processor: board.or_else(processor).unwrap_or_else(|| "unknown processor".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// How often the cores were throttled so far.
    fn throttles(&self) -> Option<f64> {
        let counts: Vec<f64> = self.throttles.iter().filter_map(|path| number(path)).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }

    /// Whether a Raspberry Pi's firmware holds the processor back now: undervoltage, frequency capped, throttled, or its
    /// soft limit of temperature.
    fn firmware(&self) -> Option<bool> {
        let flags = text(&self.root.join("sys/devices/platform/soc/soc:firmware/get_throttled"))?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        Some(flags & 0xf != 0)
    }
}

/// What was seen of a machine while it worked.
pub(super) struct Watch<'a> {
    machine: &'a Machine,
    looked: Option<Instant>,
    throttles: Option<f64>,
    processor: Processor,
    /// Sum of the watts of each sensor, and how many values.
    watts: BTreeMap<&'a str, (f64, usize)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(machine: &'a Machine) -> Self {
        let processor = Processor { lowest_frequency: None, throttled: None, hottest_celsius: None };
        Self { machine, looked: None, throttles: machine.throttles(), processor, watts: BTreeMap::new() }
    }

    /// Looks at the sensors, if it has not just done so.
    pub(super) fn look(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < INTERVAL) {
            return;
        }
        let Machine { frequencies, temperatures, sensors, .. } = self.machine;
        let shares = frequencies.iter().filter_map(|(path, highest)| Some(number(path)? / highest));
        let Processor { lowest_frequency, throttled, hottest_celsius } = &mut self.processor;
        *lowest_frequency = shares.chain(*lowest_frequency).reduce(f64::min);
        let celsius = temperatures.iter().filter_map(|path| number(path)).map(|thousandths| thousandths / 1000.0);
        *hottest_celsius = celsius.chain(*hottest_celsius).reduce(f64::max);
        if let Some(held) = self.machine.firmware() {
            *throttled = Some(throttled.unwrap_or_default() || held);
        }
        for (name, sensor) in sensors {
            if let Some(watts) = sensor.watts() {
                let (sum, count) = self.watts.entry(name).or_default();
                (*sum, *count) = (*sum + watts, *count + 1);
            }
        }
        self.looked = Some(Instant::now());
    }

    pub(super) fn processor(&self) -> Processor {
        let mut processor = self.processor.clone();
        if let (Some(before), Some(now)) = (self.throttles, self.machine.throttles()) {
            processor.throttled = Some(processor.throttled.unwrap_or_default() || now > before);
        }
        processor
    }

    /// The mean of each sensor, and what a picture took that took `seconds`.
    pub(super) fn power(&self, seconds: f64) -> Vec<Power> {
        let mean = |(name, (sum, count)): (&&str, &(f64, usize))| {
            let watts = sum / *count as f64;
            Power { sensor: (*name).to_owned(), watts, joules_a_picture: watts * seconds }
        };
        self.watts.iter().map(mean).collect()
    }
}

impl Sensor {
    fn watts(&self) -> Option<f64> {
        match self {
            Self::Power(path) => Some(number(path)? / 1e6),
            Self::VoltageAndCurrent(volts, amperes) => Some(number(volts)? * number(amperes)? / 1e6),
        }
    }
}

/// The sensors of a chip of the kernel's hardware monitoring. Without a label of its own a sensor has its chip's name and its
/// number.
fn sensors(chip: &Path) -> Vec<(String, Sensor)> {
    let name = text(&chip.join("name")).unwrap_or_else(|| chip.display().to_string());
    let label = |kind: &str, index: usize| {
        let label = text(&chip.join(format!("{kind}{index}_label")));
        format!("{name} {}", label.unwrap_or_else(|| index.to_string()))
    };
    let there = |file: String| Some(chip.join(file)).filter(|path| path.exists());
    let sensor = |index: usize| {
        let power = ["input", "average"].iter().find_map(|kind| there(format!("power{index}_{kind}")));
        if let Some(power) = power {
            return Some((label("power", index), Sensor::Power(power)));
        }
        let (volts, amperes) = (there(format!("in{index}_input"))?, there(format!("curr{index}_input"))?);
        Some((label("in", index), Sensor::VoltageAndCurrent(volts, amperes)))
    };
    (0..16).filter_map(sensor).collect()
}

/// The folders in `folder` whose name is `name` and a number.
fn numbered(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_numbered = |entry: &fs::DirEntry| {
        let number = entry.file_name().to_str().and_then(|file| file.strip_prefix(name)).map(str::to_owned);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut paths: Vec<_> = entries.filter(is_numbered).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(path: &Path) -> Option<f64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_machine_that_tells_nothing_is_none_the_worse() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path());
        let mut watch = Watch::new(&machine);
        watch.look();
        let nothing = Processor { lowest_frequency: None, throttled: None, hottest_celsius: None };
        assert_eq!((watch.processor(), watch.power(1.0)), (nothing, vec![]));
        assert_eq!(machine.kind().processor, "unknown processor");
        assert_eq!(watch.processor().to_string(), "tells nothing of itself");
    }

    #[test]
    fn sensors_are_read_in_their_units() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
                ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2400000\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1200000\n"),
                ("sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "2400000\n"),
                ("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2400000\n"),
                ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
                ("sys/class/thermal/thermal_zone0/temp", "61200\n"),
                ("sys/class/thermal/thermal_zone1/temp", "48000\n"),
                ("sys/class/hwmon/hwmon0/name", "ina3221\n"),
                ("sys/class/hwmon/hwmon0/in1_label", "VDD_IN\n"),
                ("sys/class/hwmon/hwmon0/in1_input", "5000\n"),
                ("sys/class/hwmon/hwmon0/curr1_input", "1500\n"),
                ("sys/class/hwmon/hwmon0/in2_input", "900\n"),
                ("sys/class/hwmon/hwmon1/name", "ina226\n"),
                ("sys/class/hwmon/hwmon1/power1_input", "2250000\n"),
            ],
        );
        let machine = Machine::new(root.path());
        let mut watch = Watch::new(&machine);
        watch.look();
        let expected = Processor { lowest_frequency: Some(0.5), throttled: None, hottest_celsius: Some(61.2) };
        assert_eq!(watch.processor(), expected);
        let power =
            |sensor: &str, watts, joules_a_picture| Power { sensor: sensor.to_owned(), watts, joules_a_picture };
        assert_eq!(watch.power(0.5), [power("ina226 1", 2.25, 1.125), power("ina3221 VDD_IN", 7.5, 3.75)]);
        assert_eq!(machine.kind().processor, "Raspberry Pi 5 Model B Rev 1.0");
    }

    #[test]
    fn a_processor_that_is_held_back_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let flags = "sys/devices/platform/soc/soc:firmware/get_throttled";
        for (text, held) in [("0", false), ("0x50000", false), ("50005", true), ("8", true)] {
            write(root.path(), &[(flags, text)]);
            let machine = Machine::new(root.path());
            let mut watch = Watch::new(&machine);
            watch.look();
            assert_eq!(watch.processor().throttled, Some(held), "{text}");
        }
        let count = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count";
        for (before, after, held) in [("7", "7", false), ("7", "8", true)] {
            write(root.path(), &[(flags, "0"), (count, before)]);
            let machine = Machine::new(root.path());
            let watch = Watch::new(&machine);
            write(root.path(), &[(count, after)]);
            assert_eq!(watch.processor().throttled, Some(held));
        }
    }
}
