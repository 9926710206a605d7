//! Writes the chart of the camera tests, its frames and its model, into a folder.
//! `cargo run -p edge-vit-tests --example camera_chart -- FOLDER`

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use edge_vit_tests::chart;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("say the folder to write to")?);
    fs::write(folder.join("chart.onnx"), chart::model()?)?;
    for (name, bytes) in chart::frames()? {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
