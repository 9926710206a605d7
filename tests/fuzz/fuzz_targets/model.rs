//! Model files: the graph, the bundle beside it, and a run of what could be prepared.
#![no_main]

use edge_vit::{Classifier, Model};
use libfuzzer_sys::fuzz_target;

/// The largest input that is run: a graph may ask for any size, and a step of the search should take milliseconds.
const VALUES: usize = 1 << 16;

// The search takes any panic for a crash, at its hook. The library catches those of the graph's compiler: only one that
// gets out is a crash.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |bytes: &[u8]| {
    if let Ok(classifier) = Classifier::from_bytes(bytes) {
        let _ = classifier.self_test();
    }
    if let Ok(model) = Model::from_bytes(bytes) {
        let values = model.input_shape().iter().product::<usize>();
        if values <= VALUES {
            let _ = model.run(&vec![0.5; values]);
        }
    }
});
