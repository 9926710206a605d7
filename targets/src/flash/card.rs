//! What a board is to be called, who may log in, and how it reaches the network.

use std::net::SocketAddr;

use pbkdf2::pbkdf2_hmac_array;
use sha1::Sha1;

use super::FlashError;

/// Rounds of the derivation of IEEE 802.11i, annex H.4.
const ROUNDS: u32 = 4096;

/// How a card is set up.
#[derive(Debug, Clone)]
pub struct Card {
    /// The board's name in the network.
    pub hostname: String,
    /// Who may log in. Nobody, by a password: only the key's owner.
    pub user: String,
    /// The user's public key for ssh; without one nobody can log in through the network.
    pub ssh_key: Option<String>,
    /// The wireless network; without one, a cable.
    pub wifi: Option<Wifi>,
    /// Where the page is served, if it is to be seen from other machines.
    pub serve: Option<Serve>,
    /// Whether the camera on the board's own connector is looked through, and not camera 0.
    pub csi: bool,
}

/// A wireless network.
#[derive(Clone)]
pub struct Wifi {
    /// Its name.
    pub ssid: String,
    /// Its passphrase. It does not go onto the card: what is derived from it does.
    pub passphrase: String,
    /// The country by whose rules the radio works: two capital letters, ISO 3166.
    pub country: String,
}

impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wifi").field("ssid", &self.ssid).field("country", &self.country).finish_non_exhaustive()
    }
}

impl Wifi {
    /// The network's key, in 64 hexadecimal digits.
    pub(super) fn key(&self) -> String {
        let key: [u8; 32] = pbkdf2_hmac_array::<Sha1, 32>(self.passphrase.as_bytes(), self.ssid.as_bytes(), ROUNDS);
        edge_vit_models::file::hex(key)
    }
}

/// Where the page is served.
#[derive(Debug, Clone)]
pub struct Serve {
    /// Address and port.
    pub address: SocketAddr,
    /// What clients have to know.
    pub token: String,
}

impl Card {
    /// Checks every value.
    pub(super) fn check(&self) -> Result<(), FlashError> {
        let plain = |text: &str, more: &str| {
            text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || more.contains(letter))
        };
        let name = &self.hostname;
        let sound =
            (1..=63).contains(&name.len()) && plain(name, "-") && !name.starts_with('-') && !name.ends_with('-');
        ensure(sound, "the host name", name, "up to 63 small letters, digits and hyphens, with no hyphen at an end")?;
        let sound = self.user.starts_with(|first: char| first.is_ascii_lowercase()) && self.user.len() <= 32;
        ensure(
            sound && plain(&self.user, "-_"),
            "the user",
            &self.user,
            "a small letter, then small letters, digits, - and _",
        )?;
        if let Some(key) = &self.ssh_key {
            let kind = key.split_whitespace().next().unwrap_or_default();
            let sound = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix))
                && key.trim().lines().count() == 1;
            ensure(sound, "the ssh key", key, "the one line of a .pub file")?;
        }
        if let Some(wifi) = &self.wifi {
            ensure((1..=32).contains(&wifi.ssid.len()), "the network's name", &wifi.ssid, "1 to 32 bytes")?;
            let long = (8..=63).contains(&wifi.passphrase.len());
            let printable = wifi.passphrase.bytes().all(|byte| (0x20..0x7f).contains(&byte));
            ensure(long && printable, "the network's passphrase", "...", "8 to 63 printable ASCII characters")?;
            let country = wifi.country.len() == 2 && wifi.country.bytes().all(|letter| letter.is_ascii_uppercase());
            ensure(country, "the country", &wifi.country, "two capital letters, as DE")?;
        }
        Ok(())
    }
}

fn ensure(sound: bool, what: &'static str, value: &str, expected: &'static str) -> Result<(), FlashError> {
    if sound { Ok(()) } else { Err(FlashError::Value { what, value: value.to_owned(), expected }) }
}
