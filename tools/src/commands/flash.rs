//! `edge-vit-tools flash`.

use std::fs;
use std::io::{IsTerminal as _, Write as _, stdin, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use edge_vit_targets::build::{self, BuildOptions};
use edge_vit_targets::flash::{self, Card, Serve, Wifi};
use edge_vit_targets::package;
use edge_vit_targets::profile::{self, Profile};
use rand::Rng as _;

use super::device;

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
    #[command(flatten)]
    content: Content,
    #[command(flatten)]
    place: Place,
    /// Do not ask before a card is overwritten
    #[arg(long, requires = "device")]
    yes: bool,
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

/// What the board gets.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Content {
    /// A model: the program is built for the board, as `build` does, and packaged with it
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// A package, as `package` writes it
    #[arg(long, value_name = "FILE")]
    deb: Option<PathBuf>,
}

/// Where it is written.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// A file: the image, for a card of at least its size; for a Jetson the script that sets it up, run there as root
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The card itself, as /dev/sdX: all of it is overwritten
    #[arg(long, value_name = "DEVICE")]
    device: Option<PathBuf>,
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
    // Asked before anything that takes its time.
    let device = args.place.device.as_deref().map(|path| device::choose(path, args.yes)).transpose()?;
    let work = tempfile::tempdir().context("there is no room for temporary files")?;
    let deb = match (&args.content.deb, &args.content.model) {
        (Some(deb), _) => deb.clone(),
        (None, Some(model)) => packaged(&board, model, work.path())?,
        (None, None) => bail!("neither --model nor --deb says what the board gets"),
    };
    match (&args.image, &args.place.out, device) {
        (Some(image), Some(out), _) => {
            let size = flash::customise(&board, image, &deb, &card, out)?;
            writeln!(stdout(), "{}: {} MiB, for a {}", out.display(), size.div_ceil(1 << 20), board.name)?;
        }
        (Some(image), None, Some(device)) => {
            let copy = work.path().join("card.img");
            flash::customise(&board, image, &deb, &card, &copy)?;
            device.write(&copy)?;
            writeln!(stdout(), "{}: a card for a {}, written and read back", device.path().display(), board.name)?;
        }
        (None, Some(out), _) => {
            flash::set_up(&board, &deb, &card, out)?;
            writeln!(stdout(), "{0}: `sudo sh {0}` on the {1} sets it up", out.display(), board.name)?;
        }
        (None, None, _) | (Some(_), None, None) => bail!("a card is written from an image: name one with --image"),
    }
    if let Some(serve) = &card.serve {
        writeln!(stdout(), "http://{}.local:{}/?token={}", card.hostname, serve.address.port(), serve.token)?;
    }
    Ok(())
}

/// The package of the program for the board and the model.
fn packaged(board: &Profile, model: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let options = BuildOptions { source: PathBuf::from("."), ..BuildOptions::default() };
    let built = build::build(board, &options)?;
    let options = super::package::options(built.binary, Some(model.to_owned()))?;
    Ok(package::package(board, &options, folder)?)
}

/// The network, with the passphrase from where nobody else sees it.
fn wifi(ssid: &str, country: &str) -> anyhow::Result<Wifi> {
    let passphrase = match std::env::var(PASSPHRASE) {
        Ok(passphrase) => passphrase,
        Err(_) => {
            ensure!(stdin().is_terminal(), "the passphrase of {ssid} is needed: set {PASSPHRASE}");
            rpassword::prompt_password(format!("passphrase of {ssid}: ")).context("no passphrase was read")?
        }
    };
    Ok(Wifi { ssid: ssid.to_owned(), passphrase, country: country.to_owned() })
}
