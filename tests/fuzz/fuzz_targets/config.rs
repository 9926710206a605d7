//! The text of a configuration file, up to the checked settings.
#![no_main]

use edge_vit::cli::check_config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = check_config(text) {
        assert!(!error.to_string().is_empty());
    }
});
