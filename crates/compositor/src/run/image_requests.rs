//! Which images were asked for.
//!
//! In: the images of a scene, and how they are to be made. Out: those that are to be fetched. Absent: fetching; the pictures,
//! which the composer has.
//!
//! An image is asked for once for as long as the scene names it, whatever came of it: a stranger's server is not asked again
//! whenever somebody comes or goes. It is asked for anew when it is to be made in another way. What was made before is shown
//! until then.

use std::collections::BTreeMap;

use tokio::task::AbortHandle;

/// How an image is made: its longest side, and the colour behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageVariant {
    pub(super) longest_side: u32,
    pub(super) background: u32,
}

/// By URL.
#[derive(Debug, Default)]
pub(super) struct ImageRequests(BTreeMap<String, (ImageVariant, AbortHandle)>);

impl ImageRequests {
    /// Has the images fetched that were not asked for in this way, and no others.
    pub(super) fn follow<'a>(
        &mut self,
        urls: impl Iterator<Item = &'a str> + Clone,
        variant: ImageVariant,
        mut fetch: impl FnMut(&str) -> AbortHandle,
    ) {
        self.0.retain(|url, (of, task)| {
            let stays = *of == variant && urls.clone().any(|wanted| wanted == url);
            if !stays {
                // There is nothing to abort if it was fetched already.
                task.abort();
            }
            stays
        });
        for url in urls {
            if !self.0.contains_key(url) {
                self.0.insert(url.to_owned(), (variant, fetch(url)));
            }
        }
    }

    /// Whether an answer is the one that is waited for.
    pub(super) fn is_current(&self, url: &str, variant: ImageVariant) -> bool {
        self.0.get(url).is_some_and(|(of, _)| *of == variant)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how often images are asked for.

    use tokio::task::JoinSet;

    use super::*;

    const VARIANT: ImageVariant = ImageVariant { longest_side: 1280, background: 0 };

    /// What is fetched.
    fn follow(
        requests: &mut ImageRequests,
        tasks: &mut JoinSet<()>,
        urls: &[&'static str],
        variant: ImageVariant,
    ) -> Vec<String> {
        let mut fetched = Vec::new();
        requests.follow(urls.iter().copied(), variant, |url| {
            fetched.push(url.to_owned());
            tasks.spawn(std::future::pending())
        });
        fetched
    }

    #[tokio::test]
    async fn an_image_is_asked_for_once_for_as_long_as_it_is_in_the_scene() {
        let (mut requests, mut tasks) = (ImageRequests::default(), JoinSet::new());
        let mut follow = |urls: &[&'static str]| follow(&mut requests, &mut tasks, urls, VARIANT);
        assert_eq!(follow(&["a", "b", "a"]), ["a", "b"]);
        assert!(follow(&["b", "a"]).is_empty(), "each URL is fetched once, whatever the result");
        assert_eq!(follow(&["b", "c"]), ["c"]);
        assert_eq!(follow(&["a"]), ["a"], "it was away");
        assert!(requests.is_current("a", VARIANT) && !requests.is_current("b", VARIANT));
        while requests.0.len() < tasks.len() {
            assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
        }
    }

    #[tokio::test]
    async fn another_canvas_needs_another_variant() {
        let (mut requests, mut tasks) = (ImageRequests::default(), JoinSet::new());
        for variant in [
            VARIANT,
            ImageVariant { background: 0xFF_FFFF, ..VARIANT },
            ImageVariant { longest_side: 1920, ..VARIANT },
            VARIANT,
        ] {
            assert_eq!(follow(&mut requests, &mut tasks, &["a"], variant), ["a"]);
            assert!(requests.is_current("a", variant));
            assert!(!requests.is_current("a", ImageVariant { background: 1, ..variant }));
        }
    }
}
