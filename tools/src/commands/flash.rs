//! `edge-vit-tools flash`.

use std::fs;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use edge_vit_targets::flash::{self, Card, Serve, Wifi};
use edge_vit_targets::profile;
use rand::Rng as _;

/// What names the network's passphrase.
const PASSPHRASE: &str = "EDGE_VIT_WIFI_PASSPHRASE";

/// Arguments of `flash`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The board, one of those that `boards` lists
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// For a Raspberry Pi: a stock Raspberry Pi OS image of Debian 13 or later, as .img, .img.xz or .img.gz
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The package that the board installs at its first boot, as `package` writes it
    #[arg(long, value_name = "FILE")]
    deb: PathBuf,
    /// What is written: the image, for a card of at least its size; for a Jetson the script that sets it up, run there as root
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The board's name in the network
    #[arg(long, value_name = "NAME", default_value = "edge-vit")]
    hostname: String,
    /// Who may log in, with the key of --ssh-key
    #[arg(long, value_name = "NAME", default_value = "edge-vit-admin")]
    user: String,
    /// The public key of who may log in, a .pub file
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// The wireless network; its passphrase is asked for, or taken from EDGE_VIT_WIFI_PASSPHRASE
    #[arg(long, value_name = "NAME", requires = "country")]
    wifi: Option<String>,
    /// The country by whose rules the radio works: two letters, as DE
    #[arg(long, value_name = "COUNTRY")]
    country: Option<String>,
    /// Serve the page to other machines, here: 0.0.0.0:8080. The token that they need is made up and printed
    #[arg(long, value_name = "ADDRESS:PORT")]
    serve: Option<SocketAddr>,
    /// Look through the camera on the board's own connector, not through camera 0
    #[arg(long)]
    csi: bool,
}

/// Runs the command.
///
/// # Errors
/// What stopped it, with the remedy.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let board = profile::find(&args.board, &profile::folders())?;
    ensure!(
        !args.csi || board.camera.csi.is_some(),
        "{} has no camera connector of its own: leave --csi out",
        board.name
    );
    let key = |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let card = Card {
        hostname: args.hostname.clone(),
        user: args.user.clone(),
        ssh_key: args.ssh_key.as_ref().map(key).transpose()?,
        wifi: args.wifi.as_deref().map(|ssid| wifi(ssid, args.country.as_deref().unwrap_or_default())).transpose()?,
        serve: args.serve.map(|address| Serve { address, token: format!("{:032x}", rand::rng().random::<u128>()) }),
        csi: args.csi,
    };
    match &args.image {
        Some(image) => {
            let size = flash::customise(&board, image, &args.deb, &card, &args.out)?;
            println!("{}: {} MiB, for a {}", args.out.display(), size.div_ceil(1 << 20), board.name);
        }
        None => {
            flash::set_up(&board, &args.deb, &card, &args.out)?;
            println!("{0}: `sudo sh {0}` on the {1} sets it up", args.out.display(), board.name);
        }
    }
    if let Some(serve) = &card.serve {
        println!("http://{}.local:{}/?token={}", card.hostname, serve.address.port(), serve.token);
    }
    Ok(())
}

/// The network, with the passphrase from where nobody else sees it.
fn wifi(ssid: &str, country: &str) -> anyhow::Result<Wifi> {
    let passphrase = match std::env::var(PASSPHRASE) {
        Ok(passphrase) => passphrase,
        Err(_) => {
            ensure!(stdin().is_terminal(), "the passphrase of {ssid} is needed: set {PASSPHRASE}");
            eprint!("passphrase of {ssid}: ");
            stderr().flush()?;
            let mut line = String::new();
            stdin().read_line(&mut line)?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    Ok(Wifi { ssid: ssid.to_owned(), passphrase, country: country.to_owned() })
}
