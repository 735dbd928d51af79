//! Drawing of layers on the canvas.
//!
//! In: layers, the rearmost first. Out: the output picture. Deliberately absent: the choice of the layers.
//!
//! A layer is scaled only if its picture or its place has changed since the last frame. If nothing has changed, the last
//! output picture is reused.

use std::sync::Arc;

use crate::picture::{Picture, Scaler, Yuv};
use crate::scene::{Adaption, Canvas, Rect, Scene, place};

/// A picture and its place.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) picture: Arc<Picture>,
    pub(super) rect: Rect,
    pub(super) adaption: Adaption,
}

impl PartialEq for Layer {
    /// Compares pictures by identity, not by contents.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.picture, &other.picture)
            && (self.rect, self.adaption) == (other.rect, other.adaption)
    }
}

/// A layer with its scaled picture, and the place of that picture.
#[derive(Debug)]
struct Scaled {
    layer: Layer,
    picture: Picture,
    at: Rect,
}

#[derive(Debug, Default)]
pub(super) struct Painter {
    scaler: Scaler,
    scaled: Vec<Scaled>,
    last: Option<(Canvas, Vec<Layer>, Arc<Picture>)>,
}

impl Painter {
    /// The output picture; `None` if the canvas has no size.
    pub(super) fn paint(&mut self, scene: &Scene, layers: &[Layer]) -> Option<Arc<Picture>> {
        if let Some((canvas, last, picture)) = &self.last
            && (*canvas, last.as_slice()) == (scene.canvas, layers)
        {
            return Some(picture.clone());
        }
        let color = Yuv::from_rgb(scene.canvas.color);
        let mut picture = Picture::filled(scene.canvas.width, scene.canvas.height, color)?;
        let mut before = std::mem::take(&mut self.scaled);
        for layer in layers {
            let known = before.iter().position(|scaled| scaled.layer == *layer);
            let scaled = match known {
                Some(at) => before.swap_remove(at),
                None => match scale(&mut self.scaler, layer) {
                    Some(scaled) => scaled,
                    None => continue,
                },
            };
            if scaled.at != layer.rect {
                picture.fill(layer.rect, color);
            }
            picture.paint(&scaled.picture, scaled.at.x, scaled.at.y);
            self.scaled.push(scaled);
        }
        let picture = Arc::new(picture);
        self.last = Some((scene.canvas, layers.to_vec(), picture.clone()));
        Some(picture)
    }
}

fn scale(scaler: &mut Scaler, layer: &Layer) -> Option<Scaled> {
    let Layer { picture, rect, adaption } = layer;
    let placement = place(picture.width(), picture.height(), *rect, *adaption);
    let (width, height) = (placement.to.width, placement.to.height);
    let picture = scaler.scale(picture, placement.from, width, height)?;
    Some(Scaled { layer: layer.clone(), picture, at: placement.to })
}
