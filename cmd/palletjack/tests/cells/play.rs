//! A cell from beginning to end: what the engine has, the load, and the reference used for real.

use std::time::{Duration, Instant};

use palletjack_testkit::Ran;
use palletjack_testkit::image::{Image, Layer};
use palletjack_testkit::registry::Registry;
use serde_json::Value;

use crate::cell::{Cell, EngineKind, Form, State};
use crate::engine::Engine;
use crate::images::{self, Images, here, message, reference};
use crate::machine::Machine;

/// What is wrong with a cell.
type Checked = Result<(), String>;

/// Fails the cell, which does not keep the others from being run.
macro_rules! check {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+));
        }
    };
}

pub(crate) struct Played {
    pub(crate) cell: Cell,
    pub(crate) took: Duration,
    pub(crate) result: Checked,
}

pub(crate) struct Results {
    pub(crate) version: String,
    pub(crate) cells: Vec<Played>,
}

/// Plays cells on one engine. The registry is gone before the first of them.
pub(crate) fn all(kind: EngineKind, cells: &[Cell]) -> Results {
    let (mut machine, mut registry) = (Machine::new(), Registry::start().unwrap());
    machine.set("PALLETJACK_PLATFORM", images::platform());
    machine.mirror(&registry.url());
    let images: Vec<Images> = cells.iter().copied().map(Images::of).collect();
    fetch(&machine, &registry, cells, &images);
    registry.stop();
    let engine = Engine::start(kind);
    machine.set("DOCKER_HOST", engine.host());
    let cells = cells.iter().zip(&images).map(|(cell, images)| {
        let start = Instant::now();
        let result = Scene { cell: *cell, images, machine: &machine, engine: &engine }.play();
        Played { cell: *cell, took: start.elapsed(), result }
    });
    Results { cells: cells.collect(), version: engine.version(kind) }
}

/// Fills the cache, by the references that are loaded later. Of two pins the second is published after the first, and
/// so has the tag.
fn fetch(machine: &Machine, registry: &Registry, cells: &[Cell], images: &[Images]) {
    let add = |references: Vec<String>| {
        let args: Vec<&str> =
            ["cache", "add-img"].into_iter().chain(references.iter().map(String::as_str)).collect();
        machine.run_args(&args).assert_success();
    };
    let all = || cells.iter().zip(images);
    let of_two = |cell: &Cell| cell.state.has_two_pins();
    for images in images {
        registry.publish(&images.bringer);
        registry.publish(&images.first);
    }
    let first = |(cell, images): (&Cell, &Images)| {
        let form = if of_two(cell) { pin_form(*cell) } else { cell.form };
        [reference(&images.bringer, Form::Tag), reference(&images.first, form)]
    };
    add(all().flat_map(first).collect());
    let twice: Vec<(&Cell, &Images)> = all().filter(|(cell, _)| of_two(cell)).collect();
    if twice.is_empty() {
        return;
    }
    for (_, images) in &twice {
        registry.publish(&images.second);
    }
    add(twice.iter().map(|(cell, images)| reference(&images.second, pin_form(**cell))).collect());
    let by_tag = twice.iter().filter(|(cell, _)| cell.form == Form::Tag);
    let by_tag: Vec<String> = by_tag.map(|(_, images)| reference(&images.second, Form::Tag)).collect();
    if !by_tag.is_empty() {
        add(by_tag);
    }
}

/// How two pins of one tag are written: where the pallet has the bare tag, another one pins it.
fn pin_form(cell: Cell) -> Form {
    if cell.form == Form::Tag { Form::TagDigest } else { cell.form }
}

struct Scene<'a> {
    cell: Cell,
    images: &'a Images,
    machine: &'a Machine,
    engine: &'a Engine,
}

/// What a load has to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    Nothing,
    /// Its name, which is another image's. No layer.
    Name,
    /// The image's own layer: the lower one is there.
    Own,
    Everything,
}

impl Scene<'_> {
    fn play(&self) -> Checked {
        let Images { bringer, first, second } = self.images;
        let form = self.cell.form;
        match self.cell.state {
            State::Absent => self.load(first, form, Sends::Everything)?,
            State::Present => {
                self.load(first, form, Sends::Everything)?;
                self.load(first, form, Sends::Nothing)?;
            }
            State::PartlyPresent => {
                self.load(bringer, Form::Tag, Sends::Everything)?;
                self.load(first, form, Sends::Own)?;
            }
            State::StaleTag => {
                self.load(bringer, Form::Tag, Sends::Everything)?;
                // In full: Podman takes a new name without a registry for one of `localhost`.
                ok(&self.engine.run(&["tag", &bringer.tagged(), &first.tagged()]))?;
                self.load(first, form, Sends::Own)?;
                // It was the pallet's tag before, and is again.
                self.runs(&reference(first, Form::Tag), "first")?;
            }
            State::TwoPinsOldFirst => return self.two_pins([(first, "first"), (second, "second")]),
            State::TwoPinsNewFirst => return self.two_pins([(second, "second"), (first, "first")]),
        }
        self.resolves(first, form, "first")
    }

    /// Both are there to stay, in whichever order they came, and the tag is the one's that came last.
    fn two_pins(&self, order: [(&Image, &str); 2]) -> Checked {
        let form = pin_form(self.cell);
        self.load(order[0].0, form, Sends::Everything)?;
        self.load(order[1].0, form, Sends::Own)?;
        let (mut tag, mut sends) = (order[1].1, Sends::Nothing);
        if self.cell.form == Form::Tag {
            // It is the second's in the cache.
            if tag != "second" {
                (tag, sends) = ("second", Sends::Name);
            }
            self.load(&self.images.second, Form::Tag, sends)?;
        }
        for prune in [false, true] {
            if prune {
                ok(&self.engine.run(&["image", "prune", "--force"]))?;
            }
            let after = |why: String| if prune { format!("after a prune: {why}") } else { why };
            for (image, version) in order {
                self.resolves(image, form, version).map_err(after)?;
            }
            if form == Form::TagDigest {
                self.runs(&reference(&self.images.second, Form::Tag), tag).map_err(after)?;
            }
        }
        // Without a digest that resolves, the tag is what an image can have; the two take it from each other.
        let needs_tag = form == Form::TagDigest && !Cell { form, ..self.cell }.resolves();
        for (image, version) in order {
            let sends = if needs_tag && version != tag { Sends::Name } else { Sends::Nothing };
            self.load(image, form, sends)?;
            tag = if needs_tag { version } else { tag };
        }
        Ok(())
    }

    /// A rehearsal and a load of one reference, by the command that a pallet's user or a shell script would give.
    fn load(&self, image: &Image, form: Form, sends: Sends) -> Checked {
        let reference = reference(image, form);
        let words = if form == Form::Digest {
            format!("cache load-img {reference}")
        } else {
            self.machine.pallet_of(&[&reference]);
            "plt load-img".to_owned()
        };
        let (ran, planned) = self.machine.json(&format!("{words} --dry-run"));
        check!(ran.success(), "a rehearsal failed: {ran}");
        let (ran, document) = self.machine.json(&words);
        let wrong = |what: &str| format!("{reference}: {what}: {ran}");
        self.counts(image, sends, only(&planned)?, only(&document)?).map_err(|what| wrong(&what))?;
        self.verdict(image, form, sends, &ran, only(&document)?).map_err(|what| wrong(&what))
    }

    /// The layers that go over the wire are the missing ones, by the plan and by the count.
    fn counts(&self, image: &Image, sends: Sends, planned: &Value, loaded: &Value) -> Checked {
        let layers = &here(image).layers;
        let sent: &[Layer] = match sends {
            Sends::Nothing | Sends::Name => &[],
            Sends::Own => &layers[1..],
            Sends::Everything => layers,
        };
        let bytes = |of: fn(&Layer) -> u64| sent.iter().map(of).sum::<u64>();
        let recoded = if self.cell.is_recoded() { sent.len() } else { 0 };
        check!(planned["send_layers"] == sent.len(), "planned {planned}");
        check!(planned["recode_layers"] == recoded, "planned {planned}");
        check!(loaded["whole_again"] == false, "sent twice");
        let counted = loaded["sent_layers"].as_u64().unwrap_or(u64::MAX);
        if recoded > 0 {
            // Packed anew with gzip: how small that gets is the packer's affair, but it is no more than the tar itself.
            let most = bytes(|layer| layer.unpacked_size);
            check!(counted > most / 3 && counted <= most, "{counted} bytes of layers for {most} unpacked");
        } else {
            let expected = bytes(|layer| layer.size);
            check!(counted == expected, "{counted} bytes of layers instead of {expected}");
            check!(planned["send_layer_bytes"] == expected, "planned {planned}");
        }
        let state = if sends == Sends::Nothing { "present" } else { "loaded" };
        check!(loaded["state"] == state, "{} instead of {state}", loaded["state"]);
        check!((loaded["sent"] == 0) == (sends == Sends::Nothing), "{} bytes sent", loaded["sent"]);
        Ok(())
    }

    /// What the program says of the reference, in JSON and by its exit code.
    fn verdict(&self, image: &Image, form: Form, sends: Sends, ran: &Ran, loaded: &Value) -> Checked {
        let cell = Cell { form, ..self.cell };
        let resolves = cell.resolves();
        check!(ran.code == Some(if resolves { 0 } else { 5 }), "another exit code");
        check!(loaded["resolves"] == resolves, "resolves is {}", loaded["resolves"]);
        check!(loaded["reference"] == reference(image, form), "of {}", loaded["reference"]);
        let was_there = matches!(sends, Sends::Nothing | Sends::Name);
        let way = (cell.is_repinned() && !was_there).then_some("re-pinned by pull");
        check!(loaded["way"].as_str() == way, "the way is {}", loaded["way"]);
        let runs_as = loaded["runs_as"].as_str().unwrap_or_default();
        check!((runs_as == reference(image, form)) == resolves, "it runs as {runs_as}");
        check!(loaded["note"].is_null() == resolves, "the note is {}", loaded["note"]);
        if !resolves {
            self.runs(
                runs_as,
                if image.top.digest == self.images.second.top.digest { "second" } else { "first" },
            )?;
        }
        Ok(())
    }

    /// The reference used for real: as the verdict has it, it runs offline or not.
    fn resolves(&self, image: &Image, form: Form, version: &str) -> Checked {
        let cell = Cell { form, ..self.cell };
        let reference = reference(image, form);
        if cell.resolves() {
            self.runs(&reference, version)?;
        } else {
            let created = self.engine.create(&reference);
            check!(!created.success(), "{reference} resolves without a way: {created}");
            // The ID, which is what Compose files can be made to name.
            self.runs(&here(image).config.to_string(), version)?;
        }
        for id in [image, &self.images.bringer].map(|image| image.top.digest.to_string()) {
            check!(!self.engine.had_nameless_record(&id), "a nameless record of {id} was left: {reference}");
        }
        Ok(())
    }

    /// A container of it is the right image's, with files of both of its layers.
    fn runs(&self, reference: &str, version: &str) -> Checked {
        let mut ran = self.engine.start_container(reference);
        if ran.success() && ran.stdout.is_empty() {
            // The program has printed something, or it would have failed: on a busy machine a client can come too late to
            // a container that ends at once.
            ran = self.engine.start_container(reference);
        }
        check!(ran.success(), "{reference} does not run: {ran}");
        let expected = message(self.cell, version);
        check!(ran.stdout == expected, "{reference} is {:?} instead of {expected:?}", ran.stdout);
        Ok(())
    }
}

/// The one image that a document is about.
fn only(document: &Value) -> Result<&Value, String> {
    match document["images"].as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one),
        _ => Err(format!("not one image: {document}")),
    }
}

fn ok(ran: &Ran) -> Checked {
    check!(ran.success(), "{ran}");
    Ok(())
}
