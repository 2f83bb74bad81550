//! Draws the pictures of `data/`: a few things of a household, as signed distance functions, lit by
//! one lamp. They are made by this file and nothing else, so they may be used for anything.
//!
//! `cargo run --release -p crux-demo --example render_pictures [FOLDER]`

use std::f32::consts::PI;
use std::path::{Path, PathBuf};
use std::{env, error, fs};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage};

type V = [f32; 3];

fn add(a: V, b: V) -> V {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}
fn sub(a: V, b: V) -> V {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}
fn scale(a: V, by: f32) -> V {
    [a[0] * by, a[1] * by, a[2] * by]
}
fn dot(a: V, b: V) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
fn norm(a: V) -> V {
    scale(a, 1.0 / dot(a, a).sqrt())
}
fn cross(a: V, b: V) -> V {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
fn mix(a: V, b: V, t: f32) -> V {
    add(scale(a, 1.0 - t), scale(b, t))
}

// ---- shapes: the distance from `p` to the surface, negative inside; y is up, the floor is y = 0
// ----

fn capsule(p: V, from: V, to: V, radius: f32) -> f32 {
    let (pa, ba) = (sub(p, from), sub(to, from));
    let along = (dot(pa, ba) / dot(ba, ba)).clamp(0.0, 1.0);
    let rest = sub(pa, scale(ba, along));
    dot(rest, rest).sqrt() - radius
}

fn outside_2d(x: f32, y: f32) -> f32 {
    x.max(y).min(0.0) + x.max(0.0).hypot(y.max(0.0))
}

/// An upright cylinder around `centre` with rounded edges.
fn cylinder(p: V, centre: V, radius: f32, half_height: f32, edge: f32) -> f32 {
    let q = sub(p, centre);
    outside_2d(q[0].hypot(q[2]) - radius + edge, q[1].abs() - half_height + edge) - edge
}

fn cuboid(p: V, centre: V, half: V, edge: f32) -> f32 {
    let q = sub(p, centre);
    let d = [q[0].abs() - half[0] + edge, q[1].abs() - half[1] + edge, q[2].abs() - half[2] + edge];
    let out = [d[0].max(0.0), d[1].max(0.0), d[2].max(0.0)];
    dot(out, out).sqrt() + d[0].max(d[1]).max(d[2]).min(0.0) - edge
}

/// A ring that stands upright in the plane z = 0.
fn ring(p: V, centre: V, radius: f32, thickness: f32) -> f32 {
    let q = sub(p, centre);
    (q[0].hypot(q[1]) - radius).hypot(q[2]) - thickness
}

/// A body of revolution of wall thickness `wall`, open at the top; `profile` gives the radius at a
/// height.
fn vessel(p: V, height: f32, wall: f32, profile: impl Fn(f32) -> f32) -> f32 {
    let y = p[1].clamp(0.0, height);
    let side = (p[0].hypot(p[2]) - profile(y)).abs() - wall;
    let shell = outside_2d(side, (p[1] - height * 0.5).abs() - height * 0.5);
    let bottom = cylinder(p, [0.0, 0.02, 0.0], profile(0.0), 0.02, 0.01);
    shell.min(bottom) * 0.7
}

/// Distance and colour of what is nearest.
type Scene = fn(V) -> (f32, V);

fn nearest(parts: &[(f32, V)]) -> (f32, V) {
    parts
        .iter()
        .copied()
        .fold((f32::MAX, [0.0; 3]), |best, part| if part.0 < best.0 { part } else { best })
}

const OAK: V = [0.58, 0.36, 0.17];
const BLACK: V = [0.035, 0.035, 0.04];
const WHITE: V = [0.86, 0.85, 0.82];
const BRASS: V = [0.72, 0.52, 0.16];

fn grain(p: V, wood: V) -> V {
    let rings = ((p[0] * 9.0 + (p[2] * 3.0).sin()) * 4.0 + p[1] * 2.0).sin();
    scale(wood, 1.0 + 0.10 * rings)
}

fn lamp(p: V) -> (f32, V) {
    let shade = vessel(sub(p, [0.0, 1.25, 0.0]), 0.6, 0.012, |y| 0.52 - 0.35 * y);
    nearest(&[
        (cylinder(p, [0.0, 0.05, 0.0], 0.42, 0.05, 0.02), grain(p, OAK)),
        (capsule(p, [0.0, 0.1, 0.0], [0.0, 1.6, 0.0], 0.035), BRASS),
        (shade, WHITE),
    ])
}

fn mug(p: V) -> (f32, V) {
    let handle = ring(p, [0.58, 0.55, 0.0], 0.27, 0.06).max(0.5 - p[0].hypot(p[2]));
    let band = (p[1] - 0.2).abs() < 0.1;
    let glaze = if band { WHITE } else { [0.07, 0.22, 0.50] };
    nearest(&[(vessel(p, 1.1, 0.035, |_| 0.52), glaze), (handle, [0.07, 0.22, 0.50])])
}

fn stool(p: V) -> (f32, V) {
    let leg =
        |x: f32, z: f32| capsule(p, [x * 0.32, 1.15, z * 0.32], [x * 0.5, 0.05, z * 0.5], 0.055);
    let bar = |a: V, b: V| capsule(p, a, b, 0.03);
    let legs = leg(1.0, 1.0).min(leg(-1.0, 1.0)).min(leg(1.0, -1.0)).min(leg(-1.0, -1.0));
    let bars = bar([-0.43, 0.45, 0.43], [0.43, 0.45, 0.43])
        .min(bar([-0.43, 0.45, -0.43], [0.43, 0.45, -0.43]));
    nearest(&[
        (cylinder(p, [0.0, 1.2, 0.0], 0.58, 0.08, 0.04), grain(p, OAK)),
        (legs.min(bars), grain(p, OAK)),
    ])
}

fn vase(p: V) -> (f32, V) {
    let body = vessel(p, 1.6, 0.02, |y| {
        0.30 + 0.22 * (y * PI / 1.6 * 1.35).sin() + 0.012 * (y * 40.0).sin()
    });
    nearest(&[(body, [0.16, 0.42, 0.26])])
}

fn notebook(p: V) -> (f32, V) {
    let turned = [p[0] * 0.94 - p[2] * 0.34, p[1], p[0] * 0.34 + p[2] * 0.94];
    nearest(&[
        (cuboid(turned, [0.0, 0.23, 0.0], [0.62, 0.025, 0.85], 0.02), [0.62, 0.07, 0.09]),
        (cuboid(turned, [0.0, 0.05, 0.0], [0.62, 0.025, 0.85], 0.02), [0.62, 0.07, 0.09]),
        (cuboid(turned, [-0.6, 0.14, 0.0], [0.03, 0.11, 0.85], 0.02), [0.50, 0.05, 0.07]),
        (cuboid(turned, [0.0, 0.14, 0.0], [0.58, 0.075, 0.81], 0.005), WHITE),
        (cuboid(turned, [0.45, 0.14, 0.0], [0.03, 0.125, 0.87], 0.01), BLACK),
    ])
}

fn speaker(p: V) -> (f32, V) {
    let front = [p[0], p[2] - 0.42, p[1]];
    let cone = |height: f32, radius: f32| {
        let q = [front[0], front[1], front[2] - height];
        cylinder(q, [0.0; 3], radius, 0.03, 0.02)
    };
    nearest(&[
        (
            cuboid(p, [0.0, 0.8, 0.0], [0.5, 0.8, 0.42], 0.06),
            grain([p[1], p[0], p[2]], [0.30, 0.15, 0.07]),
        ),
        (cone(0.52, 0.36), BLACK),
        (cone(0.52, 0.12).min(ring(sub(p, [0.0, 0.52, 0.45]), [0.0; 3], 0.33, 0.02)), BRASS),
        (cone(1.22, 0.18), BLACK),
    ])
}

// ---- light ----

struct View {
    scene: Scene,
    eye: V,
    at: V,
    wall: V,
}

const LAMP: V = [0.55, 0.75, 0.38];

impl View {
    fn distance(&self, p: V) -> (f32, V) {
        let (thing, colour) = (self.scene)(p);
        if p[1] < thing { (p[1], self.wall) } else { (thing, colour) }
    }

    fn normal(&self, p: V) -> V {
        let at = |d: V| self.distance(add(p, d)).0 - self.distance(sub(p, d)).0;
        norm([at([1e-3, 0.0, 0.0]), at([0.0, 1e-3, 0.0]), at([0.0, 0.0, 1e-3])])
    }

    /// 1 where the lamp shines on `p` wholly, 0 in full shadow.
    fn lit(&self, p: V) -> f32 {
        let (mut along, mut light) = (0.02, 1.0f32);
        for _ in 0..48 {
            let d = self.distance(add(p, scale(norm(LAMP), along))).0;
            light = light.min(7.0 * d / along);
            along += d.clamp(0.015, 0.2);
            if light < 0.01 || along > 5.0 {
                break;
            }
        }
        light.clamp(0.0, 1.0)
    }

    fn colour(&self, ray: V) -> V {
        let mut along = 0.0;
        for _ in 0..160 {
            let p = add(self.eye, scale(ray, along));
            let (d, colour) = self.distance(p);
            if d < 0.0008 {
                let (n, sun) = (self.normal(p), norm(LAMP));
                let corner = (0.5 + 0.5 * self.distance(add(p, scale(n, 0.12))).0 / 0.12).min(1.0);
                let shine = dot(n, norm(sub(sun, ray))).max(0.0).powf(60.0)
                    * if p[1] > 0.002 { 0.35 } else { 0.0 };
                let light = 0.34 * corner * (0.7 + 0.3 * n[1])
                    + 0.95 * dot(n, sun).max(0.0) * self.lit(add(p, scale(n, 0.004)));
                let seen = add(scale(colour, light), [shine; 3]);
                return mix(seen, self.wall, (along / 14.0).powi(3).min(1.0));
            }
            along += d;
            if along > 14.0 {
                break;
            }
        }
        self.wall
    }

    fn draw(&self, width: u32, height: u32) -> RgbImage {
        let ahead = norm(sub(self.at, self.eye));
        let right = norm(cross(ahead, [0.0, 1.0, 0.0]));
        let up = cross(right, ahead);
        RgbImage::from_fn(width, height, |x, y| {
            let mut sum = [0.0; 3];
            for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                let u = (x as f32 + dx - width as f32 / 2.0) / height as f32;
                let v = (height as f32 / 2.0 - y as f32 - dy) / height as f32;
                sum = add(
                    sum,
                    self.colour(norm(add(scale(ahead, 1.7), add(scale(right, u), scale(up, v))))),
                );
            }
            Rgb(sum
                .map(|part| ((part / 4.0).clamp(0.0, 1.0).powf(1.0 / 2.2) * 255.0).round() as u8))
        })
    }
}

fn main() -> Result<(), Box<dyn error::Error>> {
    let folder = env::args_os()
        .nth(1)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("data"), PathBuf::from);
    let warm = [0.80, 0.74, 0.66];
    let cool = [0.66, 0.72, 0.78];
    let pictures: [(&str, Scene, V, V, V, (u32, u32)); 9] = [
        ("lamp.jpg", lamp, [2.2, 2.0, 3.6], [0.0, 0.9, 0.0], warm, (1600, 1200)),
        ("lamp-from-below.jpg", lamp, [1.2, 0.5, 3.4], [0.0, 1.1, 0.0], warm, (1200, 1600)),
        ("mug.jpg", mug, [1.3, 1.7, 2.6], [0.1, 0.5, 0.0], cool, (1600, 1200)),
        ("mug-side.png", mug, [0.4, 0.7, 2.9], [0.1, 0.5, 0.0], cool, (480, 360)),
        ("stool.jpg", stool, [2.1, 2.1, 2.9], [0.0, 0.6, 0.0], cool, (1600, 1200)),
        ("vase.jpg", vase, [1.6, 1.9, 3.2], [0.0, 0.75, 0.0], warm, (1200, 1600)),
        ("notebook.jpg", notebook, [0.9, 2.1, 2.5], [0.0, 0.1, 0.0], cool, (1600, 1200)),
        ("speaker.jpg", speaker, [1.7, 1.4, 3.3], [0.0, 0.75, 0.0], warm, (1200, 1600)),
        ("speaker-front.jpg", speaker, [0.3, 0.9, 3.8], [0.0, 0.75, 0.0], warm, (1600, 1200)),
    ];
    for (name, scene, eye, at, wall, (width, height)) in pictures {
        let drawn = View { scene, eye, at, wall }.draw(width, height);
        let path = folder.join(name);
        if name.ends_with(".png") {
            drawn.save_with_format(&path, ImageFormat::Png)?;
        } else {
            drawn.write_with_encoder(JpegEncoder::new_with_quality(
                &mut fs::File::create(&path)?,
                88,
            ))?;
        }
        println!("{} {width}×{height}, {} KB", path.display(), fs::metadata(&path)?.len() / 1000);
    }
    Ok(())
}
