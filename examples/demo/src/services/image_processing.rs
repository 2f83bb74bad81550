//! The image service: opens each picture, makes a large and a small version for the shop, and looks
//! at what colour the thing is. Files are written beside their final name and then renamed, so that
//! doing the same task twice leaves the same files.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Cursor};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};

use super::Refused;

/// The longest side of the two versions, in pixels.
const LARGE: u32 = 1000;
const SMALL: u32 = 240;

/// Of JPEG: below 75 edges begin to swim, above 85 files grow for nothing.
const QUALITY: u8 = 80;

/// Decoded pictures larger than this are refused instead of filling the memory.
const MAX_DECODED_BYTES: u64 = 256 << 20;

#[derive(Debug, Deserialize)]
pub struct Input {
    images: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Output {
    pub processed_images: Vec<String>,
    pub processing_time: String,
    pub pictures: Vec<Picture>,
}

/// The large version of one picture. Sizes in pixels and bytes.
#[derive(Debug, Serialize)]
pub struct Picture {
    pub source: String,
    pub file: String,
    pub width: u32,
    pub height: u32,
    pub bytes_before: u64,
    pub bytes: u64,
    pub colour: &'static str,
}

/// Where pictures come from and where they go.
#[derive(Debug, Clone)]
pub struct Folders {
    pub originals: PathBuf,
    pub processed: PathBuf,
}

impl Folders {
    /// All pictures of one upload.
    pub fn process(&self, workflow_id: &str, input: Input) -> Result<Output, Refused> {
        let began = Instant::now();
        let folder = self.processed.join(plain_name(workflow_id)?);
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        let mut processed_images = Vec::new();
        let mut pictures = Vec::new();
        for source in input.images {
            let (picture, small) = self.process_one(source, &folder)?;
            processed_images.extend([picture.file.clone(), small]);
            pictures.push(picture);
        }
        let processing_time = format!("{:.3}s", began.elapsed().as_secs_f64());
        Ok(Output { processed_images, processing_time, pictures })
    }

    fn process_one(&self, source: String, folder: &Path) -> Result<(Picture, String), Refused> {
        let name = plain_name(&source)?;
        let bytes = fs::read(self.originals.join(name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Refused::new("PictureNotFound", format!("there is no picture `{source}`"))
            }
            _ => failed(name, &error),
        })?;
        let picture = decode(&bytes)
            .map_err(|error| Refused::new("PictureUnreadable", format!("{source}: {error}")))?;
        let stem = name.file_stem().unwrap_or(name.as_os_str()).to_string_lossy();
        let (large, small) = (shrink(&picture, LARGE), shrink(&picture, SMALL));
        let (file, small_file) = (format!("{stem}-{LARGE}.jpg"), format!("{stem}-{SMALL}.jpg"));
        let written = write(&folder.join(&file), &large)?;
        write(&folder.join(&small_file), &small)?;
        let picture = Picture {
            width: large.width(),
            height: large.height(),
            bytes_before: bytes.len() as u64,
            bytes: written,
            colour: colour(&small),
            source,
            file,
        };
        Ok((picture, small_file))
    }
}

/// A name without folders: nobody reaches outside with `../`.
fn plain_name(name: &str) -> Result<&Path, Refused> {
    let path = Path::new(name);
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(path),
        _ => Err(Refused::new("PictureNotFound", format!("`{name}` is not the name of a picture"))),
    }
}

fn failed(path: &Path, error: &dyn std::error::Error) -> Refused {
    Refused::new("Error", format!("{}: {error}", path.display()))
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, image::ImageError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    reader.decode()
}

/// Never larger than it was.
fn shrink(picture: &DynamicImage, longest: u32) -> RgbImage {
    if picture.width().max(picture.height()) <= longest {
        return picture.to_rgb8();
    }
    picture.resize(longest, longest, FilterType::CatmullRom).to_rgb8()
}

fn write(path: &Path, picture: &RgbImage) -> Result<u64, Refused> {
    let mut bytes = Vec::new();
    picture
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))
        .map_err(|error| failed(path, &error))?;
    let unfinished = path.with_extension("jpg.part");
    fs::write(&unfinished, &bytes)
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(|error| failed(path, &error))?;
    Ok(bytes.len() as u64)
}

/// The colour that most of the middle of the picture has, what looks like the background left out:
/// that is what the corners show.
fn colour(picture: &RgbImage) -> &'static str {
    let (width, height) = picture.dimensions();
    let corner = picture.get_pixel(0, 0).0;
    let is_background =
        |pixel: [u8; 3]| pixel.iter().zip(corner).all(|(part, there)| part.abs_diff(there) < 40);
    let mut counts: HashMap<&'static str, u32> = HashMap::new();
    for y in height / 8..height * 7 / 8 {
        for x in width / 4..width * 3 / 4 {
            let pixel = picture.get_pixel(x, y).0;
            if !is_background(pixel) {
                *counts.entry(colour_name(pixel)).or_default() += 1;
            }
        }
    }
    // By name where two are equal: the same picture gives the same answer every time.
    counts
        .into_iter()
        .max_by_key(|&(name, count)| (count, name))
        .map_or_else(|| colour_name(corner), |(name, _)| name)
}

fn colour_name(pixel: [u8; 3]) -> &'static str {
    let [red, green, blue] = pixel.map(|part| f32::from(part) / 255.0);
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    let spread = high - low;
    if high < 0.2 {
        return "black";
    }
    if spread < 0.12 * high.max(0.5) {
        return if high > 0.75 { "white" } else { "grey" };
    }
    let hue = if high == red {
        60.0 * ((green - blue) / spread).rem_euclid(6.0)
    } else if high == green {
        60.0 * ((blue - red) / spread + 2.0)
    } else {
        60.0 * ((red - green) / spread + 4.0)
    };
    match hue {
        15.0..45.0 if high > 0.6 => "oak",
        15.0..45.0 => "brown",
        45.0..70.0 => "yellow",
        70.0..170.0 => "green",
        170.0..260.0 => "blue",
        260.0..330.0 => "purple",
        _ => "red",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, Folders) {
        let processed = tempfile::tempdir().expect("a folder");
        let originals = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let folders = Folders { originals, processed: processed.path().to_owned() };
        (processed, folders)
    }

    fn input(images: &[&str]) -> Input {
        Input { images: images.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn pictures_are_resized_and_coded_anew() {
        let (_kept, folders) = folders();
        let output =
            folders.process("one", input(&["mug.jpg", "mug-side.png"])).expect("processed");
        assert_eq!(
            output.processed_images,
            ["mug-1000.jpg", "mug-240.jpg", "mug-side-1000.jpg", "mug-side-240.jpg"]
        );
        let large = image::open(folders.processed.join("one/mug-1000.jpg")).expect("a picture");
        assert_eq!((large.width(), large.height()), (1000, 750));
        let [mug, side] = &output.pictures[..] else { panic!("two pictures") };
        assert_eq!((mug.width, mug.height, mug.colour), (1000, 750, "blue"));
        assert!(mug.bytes < mug.bytes_before / 2, "{mug:?}");
        assert_eq!((side.width, side.height), (480, 360), "small ones are not blown up");
    }

    #[test]
    fn the_same_task_again_leaves_the_same_files() {
        let (_kept, folders) = folders();
        let files = || {
            let mut all: Vec<_> = fs::read_dir(folders.processed.join("again"))
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .map(|path| (path.clone(), fs::read(path).expect("a file")))
                .collect();
            all.sort();
            all
        };
        folders.process("again", input(&["vase.jpg"])).expect("processed");
        let first = files();
        folders.process("again", input(&["vase.jpg"])).expect("processed");
        assert_eq!(first.len(), 2);
        assert!(first == files(), "the files differ");
    }

    #[test]
    fn colours_are_those_of_the_things() {
        let (_kept, folders) = folders();
        let named = |name| {
            folders.process("colours", input(&[name])).expect("processed").pictures[0].colour
        };
        assert_eq!(named("vase.jpg"), "green");
        assert_eq!(named("notebook.jpg"), "red");
        assert_eq!(named("stool.jpg"), "oak");
        assert_eq!(named("speaker.jpg"), "brown");
    }

    #[test]
    fn what_cannot_be_opened_is_refused_by_name() {
        let (_kept, folders) = folders();
        let refused = |name| folders.process("refused", input(&[name])).expect_err("refused");
        assert_eq!(
            refused("none.jpg"),
            Refused::new("PictureNotFound", "there is no picture `none.jpg`")
        );
        assert_eq!(refused("../Cargo.toml").name, "PictureNotFound");
        assert_eq!(refused("/etc/hostname").name, "PictureNotFound");
        assert_eq!(refused("products.json").name, "PictureUnreadable");
    }
}
