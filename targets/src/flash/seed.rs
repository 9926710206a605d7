//! What cloud-init reads at the first boot. JSON is YAML, so that no name can end a string that it stands in.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Card, Serve};
use crate::profile::Profile;

/// The package's name on the boot partition.
pub(super) const PACKAGE: &str = "edge-vit.deb";
/// The file by which one sees that the image runs cloud-init.
pub(super) const USER_DATA: &str = "user-data";

/// The files' names and texts.
pub(super) fn files(board: &Profile, card: &Card) -> [(&'static str, String); 3] {
    let user_data = format!("#cloud-config\n{:#}\n", user_data(board, card));
    let network = format!("{:#}\n", network(card));
    // Another text is another instance: a card that is written anew is set up anew.
    let instance = edge_vit_models::file::hex(&Sha256::digest([&user_data, &*network].concat())[..8]);
    let meta_data = format!("{:#}\n", json!({ "instance-id": format!("edge-vit-{instance}") }));
    [(USER_DATA, user_data), ("network-config", network), ("meta-data", meta_data)]
}

fn user_data(board: &Profile, card: &Card) -> Value {
    let mut user = json!({
        "name": card.user,
        "shell": "/bin/bash",
        "groups": "adm,sudo,video,plugdev,netdev",
        "lock_passwd": true,
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
    });
    if let Some(key) = &card.ssh_key {
        user["ssh_authorized_keys"] = json!([key.trim()]);
    }
    let mut files = vec![json!({ "path": "/etc/edge-vit/edge-vit.toml", "content": configuration(board, card) })];
    if let Some(serve) = &card.serve {
        files.push(json!({
            "path": "/etc/default/edge-vit",
            "permissions": "0600",
            "content": secrets(serve),
        }));
    }
    json!({
        "hostname": card.hostname,
        "manage_etc_hosts": true,
        "users": [user],
        "ssh_pwauth": false,
        "enable_ssh": card.ssh_key.is_some(),
        "write_files": files,
        "runcmd": [["dpkg", "--force-confold", "--install", format!("/boot/firmware/{PACKAGE}")]],
    })
}

/// The environment of the service that nobody else may read.
pub(super) fn secrets(serve: &Serve) -> String {
    format!("EDGE_VIT_TOKEN={}\n", serve.token)
}

/// The package's own configuration, with what the card says in it.
pub(super) fn configuration(board: &Profile, card: &Card) -> String {
    let mut text = include_str!("../../package/edge-vit.toml").to_owned();
    if let Some(csi) = board.camera.csi.filter(|_| card.csi) {
        text = text.replace("\ncamera = 0\n", "\n").replace("# csi = \"pi\"", &format!("csi = \"{}\"", csi.as_str()));
    }
    if let Some(serve) = &card.serve {
        text = text.replace("address = \"127.0.0.1:8080\"", &format!("address = \"{}\"", serve.address));
    }
    text
}

fn network(card: &Card) -> Value {
    let mut network = json!({
        "version": 2,
        "ethernets": { "eth0": { "dhcp4": true, "optional": true } },
    });
    if let Some(wifi) = &card.wifi {
        network["wifis"] = json!({
            "wlan0": {
                "dhcp4": true,
                "optional": true,
                "regulatory-domain": wifi.country,
                "access-points": { wifi.ssid.as_str(): { "password": wifi.key() } },
            }
        });
    }
    json!({ "network": network })
}
