//! One file that sets up a Jetson: a shell script that holds the package.
//!
//! NVIDIA's own tool writes the system, and the board's user finishes it at its first start. What comes after that is this
//! script's: name, login, network, configuration, package.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Card, seed};
use crate::profile::Profile;

/// What the script is made of; every `@name@` stands for a value.
const TEMPLATE: &str = include_str!("../../flash/setup.sh");
/// Characters a line of the package's text.
const LINE: usize = 76;

/// The script for a board with this version of Jetson Linux.
pub(super) fn script(board: &Profile, l4t: &str, card: &Card, package: &[u8]) -> String {
    let wifi = card.wifi.as_ref();
    let secrets = card.serve.as_ref().map(seed::secrets).unwrap_or_default();
    let quoted = |text: &str| shell_words::quote(text).into_owned();
    let values = [
        ("board", quoted(&board.name)),
        ("l4t", quoted(l4t)),
        ("hostname", quoted(&card.hostname)),
        ("user", quoted(&card.user)),
        ("ssh_key", quoted(card.ssh_key.as_deref().unwrap_or_default().trim())),
        ("ssid", quoted(wifi.map_or("", |wifi| &wifi.ssid))),
        ("psk", wifi.map(super::Wifi::key).unwrap_or_default()),
        ("configuration", seed::configuration(board, card).trim_end().to_owned()),
        ("secrets", secrets.trim_end().to_owned()),
        ("package", lines(package)),
    ];
    fill(TEMPLATE, &values)
}

/// The template with its values, which are not looked into themselves.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut parts = template.split('@');
    text += parts.next().unwrap_or_default();
    while let Some(part) = parts.next() {
        match values.iter().find(|(name, _)| *name == part) {
            Some((_, value)) => {
                text += value;
                text += parts.next().unwrap_or_default();
            }
            None => {
                text.push('@');
                text += part;
            }
        }
    }
    text
}

fn lines(bytes: &[u8]) -> String {
    // Three bytes are four characters, so that whole lines are coded alone.
    let lines: Vec<_> = bytes.chunks(LINE / 4 * 3).map(|line| STANDARD.encode(line)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once_and_other_at_signs_stay() {
        let values = [("a", "1@b@".to_owned()), ("b", "2".to_owned())];
        assert_eq!(fill("x=@a@ y=@b@ me@home.org \"$@\" @", &values), "x=1@b@ y=2 me@home.org \"$@\" @");
    }

    #[test]
    fn the_packages_text_is_what_base64_reads() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = lines(&bytes);
        assert!(text.lines().all(|line| line.len() <= LINE));
        assert_eq!(STANDARD.decode(text.replace('\n', "")).unwrap(), bytes);
    }
}
