//! A USB camera in user space, which the kernel's own `uvcvideo` drives.
//!
//! The kernel module `vhci-hcd` is a USB host controller whose devices lie at the other end of a socket, spoken to in
//! the USB/IP protocol. Here the other end is a thread of this process that answers as a camera of the USB Video
//! Class 1.1 does ("Universal Serial Bus Device Class Definition for Video Devices", revision 1.1, and its payload
//! specifications; "UVC" in comments here): what the driver enumerates, negotiates and reassembles is what a real
//! camera on a real cable gives it.

mod control;
mod descriptors;
mod device;
mod protocol;

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use device::Device;

/// Where `vhci-hcd` takes and gives up devices.
const CONTROLLER: &str = "/sys/devices/platform/vhci_hcd.0";
/// The number that this end of the connection goes by, bus 1 and device 1 in USB/IP's notation.
const DEVICE_ID: u32 = 1 << 16 | 1;
/// `USB_SPEED_HIGH` of the kernel's `enum usb_device_speed`: USB 2.0.
const HIGH_SPEED: u32 = 3;

/// How the pixels of a frame are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JPEG a frame.
    Mjpeg,
    /// Two pixels in four bytes, Y U Y V.
    Yuyv,
    /// A plane of Y, then one of U and V in turns at half the height and width.
    Nv12,
    /// Y alone.
    Grey,
}

/// One of the ways in which a camera offers to send.
#[derive(Debug, Clone)]
pub(crate) struct Mode {
    /// How the pixels are sent.
    pub(crate) format: Format,
    /// Pixels a row.
    pub(crate) width: u16,
    /// Rows.
    pub(crate) height: u16,
    /// Frames a second.
    pub(crate) rate: u32,
    /// What is sent, in a circle.
    pub(crate) frames: Vec<Arc<[u8]>>,
}

impl Mode {
    /// The largest frame in bytes: of raw formats each frame's size, of JPEG a bound.
    fn frame_size(&self) -> u32 {
        let pixels = u32::from(self.width) * u32::from(self.height);
        pixels * u32::from(self.format.bits_per_pixel()) / 8
    }

    /// The time between two frames in units of 100 ns (UVC 4.3.1.1, `dwFrameInterval`).
    fn interval(&self) -> u32 {
        10_000_000 / self.rate
    }
}

impl Format {
    /// Bits a pixel of the raw formats; for JPEG a bound.
    fn bits_per_pixel(self) -> u8 {
        match self {
            Self::Mjpeg | Self::Yuyv => 16,
            Self::Nv12 => 12,
            Self::Grey => 8,
        }
    }
}

/// A camera that is plugged in. Dropping it unplugs it.
pub(crate) struct Camera {
    device: Arc<Device>,
    port: u8,
}

impl Camera {
    /// Plugs a camera that offers `modes`, the first being its default, into `port` (0 to 7) of the controller.
    ///
    /// # Errors
    /// If `vhci-hcd` is not loaded, or the port is taken.
    pub(crate) fn plug(port: u8, modes: Vec<Mode>) -> io::Result<Self> {
        let (kernel, ours) = UnixStream::pair()?;
        let device = Arc::new(Device::new(ours.try_clone()?, modes));
        let answering = Arc::clone(&device);
        thread::spawn(move || answering.answer(ours));
        let sending = Arc::clone(&device);
        thread::spawn(move || sending.send());
        // The kernel keeps a reference of its own to the socket whose descriptor is named here.
        let attach = format!("{port} {} {DEVICE_ID} {HIGH_SPEED}", kernel.as_raw_fd());
        fs::write(format!("{CONTROLLER}/attach"), attach)?;
        Ok(Self { device, port })
    }

    /// Sends `frames` in a circle from now on, in every mode.
    pub(crate) fn show(&self, frames: &[Arc<[u8]>]) {
        self.device.show(frames);
    }

    /// Stops sending while staying plugged in, or goes on.
    pub(crate) fn stall(&self, stalled: bool) {
        self.device.stall(stalled);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        if let Err(error) = fs::write(format!("{CONTROLLER}/detach"), self.port.to_string()) {
            eprintln!("cannot unplug port {}: {error}", self.port);
        }
        self.device.close();
    }
}
