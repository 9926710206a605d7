//! The smallest program around the library: one model, one picture, a line a class, best first.
//!
//! Only the standard library and `edge-vit` without features. `tests/wasm/run` runs it as WebAssembly.

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};

use edge_vit::Classifier;

/// Reads the model's bytes from the standard input, so that nothing but the picture is a file.
fn main() -> Result<(), Box<dyn Error>> {
    let picture = env::args().nth(1).ok_or("usage: edge-vit-embedded PICTURE < MODEL")?;
    let mut model = Vec::new();
    io::stdin().read_to_end(&mut model)?;
    let classifier = Classifier::from_bytes(&model)?;
    let picture = edge_vit::open_picture(picture)?;
    let mut out = io::stdout().lock();
    for prediction in classifier.classify(&picture)? {
        writeln!(out, "{:.6} {}", prediction.score, prediction.label)?;
    }
    Ok(())
}
