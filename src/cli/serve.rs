//! `gsk serve`.

use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::value::{self, Bitrate, Listen, as_text};
use crate::config::{Keys, Origin, Resolved};
use crate::error::{Error, Result};
use crate::gpu::{
    self,
    nvenc::{PictureFormat, Preset},
};
use crate::output::Printer;
use crate::pipeline::encode::{Choice, Codec, Main, NvencOptions, WhenFull};
use crate::pipeline::frame::{PixelFormat, Size};
use crate::pipeline::rate::Quality;
use crate::pipeline::source::{Restart, Spec};
use crate::serve::{self, Input, Settings, Token};

/// The flags of `gsk serve`, and the keys below `serve:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServeArgs {
    /// Address and port to listen on; a port alone means 127.0.0.1 [default: 127.0.0.1:5000]
    ///
    /// Any address but loopback needs a token, which is made at random and printed once if none is given. IPv6
    /// addresses stand in brackets.
    #[arg(long, value_name = "[ADDR:]PORT", help_heading = ACCESS)]
    #[serde(with = "as_text")]
    pub listen: Option<Listen>,

    /// What to show: "scene", "-" for standard input, or a .y4m file [default: scene]
    #[arg(long, value_name = "SPEC", conflicts_with = "command")]
    #[serde(with = "as_text")]
    pub source: Option<Spec>,

    /// Width and height in pixels, both even, 16 to 8192; raw input needs it [default for the scene: 1280x720]
    #[arg(long, value_name = "WxH")]
    #[serde(with = "as_text")]
    pub size: Option<Size>,

    /// Frames per second, 1 to 240, such as 29.97 [default: 30]
    #[arg(long, value_name = "N", value_parser = value::fps)]
    pub fps: Option<f64>,

    /// How raw frames lie in memory, on standard input or from a program
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub pixel_format: Option<PixelFormat>,

    /// Start a file again at its end
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub r#loop: Option<bool>,

    /// When to start the program again after it has ended [default: never]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub restart: Option<Restart>,

    /// Encoder; auto takes the best that works and says why [default: auto]
    #[arg(long, value_name = "NAME", value_enum, help_heading = ENCODING)]
    pub encoder: Option<Choice>,

    /// Video that viewers get who ask for none; hevc and av1 need NVENC, and browsers that cannot decode them get h264
    /// [default: h264]
    #[arg(long, value_name = "NAME", value_enum, help_heading = ENCODING)]
    pub codec: Option<Main>,

    /// Bits per second, 100k to 200M [default: 4M]
    #[arg(long, value_name = "N[k|M]", help_heading = ENCODING)]
    pub bitrate: Option<Bitrate>,

    /// Quality of JPEG pictures, 1 to 100, or auto: as the bit rate allows, 40 to 85 [default: auto]
    #[arg(long, value_name = "N|auto", help_heading = ENCODING)]
    #[serde(with = "as_text")]
    pub jpeg_quality: Option<Quality>,

    /// The GPU that draws the scene and encodes, by nvidia-smi's index, by UUID or by PCI address [default: the first that can]
    #[arg(long, value_name = "INDEX|UUID|PCI")]
    #[serde(with = "as_text")]
    pub gpu: Option<gpu::Choice>,

    /// Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]
    #[arg(long = "slots", value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(0..=1024), help_heading = ENCODING)]
    pub nvenc_max_sessions: Option<u32>,

    /// What to do while no encoder slot is free [default: refuse]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = ENCODING)]
    pub when_full: Option<WhenFull>,

    /// NVENC's preset: p1 is the fastest, p7 of the best quality [default: p3]
    #[arg(long, value_name = "PRESET", value_enum, help_heading = ENCODING)]
    pub nvenc_preset: Option<Preset>,

    /// Refresh the whole picture every so many frames, a part with each, 2 to 3600; NVENC only [default: never]
    ///
    /// For viewers of a lossy relay: they see a whole picture again without asking for a key frame. It costs bits all the
    /// time.
    #[arg(long, value_name = "FRAMES", value_parser = RangedU64ValueParser::<u32>::new().range(2..=3600), help_heading = ENCODING)]
    pub intra_refresh: Option<u32>,

    /// What NVENC is given: nv12, converted by gsk to BT.709, or argb, which its engine converts to BT.601 [default: nv12]
    #[arg(long, value_name = "FORMAT", value_enum, help_heading = ENCODING)]
    pub nvenc_input: Option<PictureFormat>,

    /// File that holds the access token (or set GSK_TOKEN)
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub token_file: Option<String>,

    /// Host name to accept beside this machine's own; may be repeated
    #[arg(long, value_name = "NAME", value_parser = value::host, value_delimiter = ',', help_heading = ACCESS)]
    pub allow_host: Option<Vec<String>>,

    /// Origin of pages to accept beside our own, such as https://example.org; may be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = value::origin, value_delimiter = ',', help_heading = ACCESS)]
    pub allow_origin: Option<Vec<String>>,

    /// Whose pointer and keys reach the source [default: all]
    #[arg(long, value_name = "WHOSE", value_enum, help_heading = ACCESS)]
    pub input: Option<Input>,

    /// Most viewers at a time, 1 to 10000 [default: 512]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=10_000), help_heading = ACCESS)]
    pub max_viewers: Option<u32>,

    /// Name of this worker, 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-' [default: omega-0]
    #[arg(long, value_name = "NAME", value_parser = value::instance_id)]
    pub instance_id: Option<String>,

    /// Program whose standard output carries frames; it gets input events on standard input as JSON lines
    #[arg(last = true, value_name = "CMD", num_args = 1..)]
    pub command: Option<Vec<String>>,
}

const ENCODING: &str = "Encoding";
const ACCESS: &str = "Access";

impl Keys for ServeArgs {
    const SECTION: Option<&'static str> = Some("serve");
    const GUARDED: &'static [&'static str] =
        &["listen", "command", "token_file", "allow_host", "allow_origin", "input"];
    const SECRETS: &'static [&'static str] = &["token"];
    const ALTERNATIVES: &'static [&'static str] = &["source", "command"];

    fn defaults() -> ServeArgs {
        ServeArgs {
            listen: Some(Listen(([127, 0, 0, 1], 5000).into())),
            source: Some(Spec::Scene),
            fps: Some(30.0),
            r#loop: Some(false),
            restart: Some(Restart::Never),
            encoder: Some(Choice::Auto),
            codec: Some(Main::H264),
            nvenc_preset: Some(Preset::P3),
            nvenc_input: Some(PictureFormat::Nv12),
            bitrate: Some(Bitrate(4_000_000)),
            jpeg_quality: Some(Quality::Auto),
            when_full: Some(WhenFull::Refuse),
            allow_host: Some(Vec::new()),
            allow_origin: Some(Vec::new()),
            input: Some(Input::All),
            max_viewers: Some(512),
            instance_id: Some("omega-0".into()),
            ..ServeArgs::default()
        }
    }
}

pub fn run(resolved: Resolved<ServeArgs>, printer: &Printer) -> Result<ExitCode> {
    let (settings, warnings) = settings(resolved)?;
    warnings.iter().for_each(|warning| printer.warn(warning));
    serve::run(settings, printer)
}

/// The settings, and words on those that have no effect.
fn settings(resolved: Resolved<ServeArgs>) -> Result<(Settings, Vec<String>)> {
    fn given<T>(value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::bug("a setting has no default"))
    }
    let args = &resolved.values;
    let source = match (&args.source, &args.command) {
        (_, Some(words)) => Spec::Program(words.iter().map(Into::into).collect()),
        (source, None) => given(source.clone())?,
    };
    let warnings = without_effect(&resolved, &source)?;
    let token = match (&args.token_file, resolved.secret("token")) {
        // A variable outranks a file's key, and a flag outranks the variable.
        (Some(file), _) if matches!(resolved.origin("token_file"), Origin::Flag(_)) => Token::File(file.into()),
        (_, Some(token)) => Token::Given(token.clone()),
        (Some(file), None) => Token::File(file.into()),
        (None, None) => Token::Unset,
    };
    let args = resolved.values;
    let settings = Settings {
        listen: given(args.listen)?.0,
        source,
        encoder: given(args.encoder)?,
        size: args.size,
        fps: given(args.fps)?,
        bitrate: given(args.bitrate)?.0,
        pixel_format: args.pixel_format,
        looped: given(args.r#loop)?,
        restart: given(args.restart)?,
        instance_id: given(args.instance_id)?,
        token,
        allow_host: given(args.allow_host)?,
        allow_origin: given(args.allow_origin)?,
        input: given(args.input)?,
        max_viewers: given(args.max_viewers)?,
        jpeg_quality: given(args.jpeg_quality)?,
        slots: args.nvenc_max_sessions,
        when_full: given(args.when_full)?,
        codec: given(args.codec)?,
        nvenc: NvencOptions {
            preset: given(args.nvenc_preset)?,
            intra_refresh: args.intra_refresh,
            input: given(args.nvenc_input)?,
        },
        gpu: args.gpu,
    };
    Ok((settings, warnings))
}

/// Settings that the source or the encoder makes nothing of. As a flag such a one is a mistake of this moment and is refused;
/// in a variable or file it may be meant for other workers, and is only told.
fn without_effect(resolved: &Resolved<ServeArgs>, source: &Spec) -> Result<Vec<String>> {
    let args = &resolved.values;
    let (file, program) = (matches!(source, Spec::File(_)), matches!(source, Spec::Program(_)));
    let raw = program || *source == Spec::Stdin;
    let encoder = args.encoder.unwrap_or_default();
    let nvenc = encoder.may_nvenc();
    // H.264 is what there is anyway, where there is any.
    let codec = !nvenc && (args.codec != Some(Main::H264) || encoder.codec() == Codec::Jpeg);
    let software = args.when_full == Some(WhenFull::Software);
    let (of_source, of_encoder) = (format!("the source '{source}'"), format!("--encoder {}", as_word(encoder)));
    let without_gpu = *source != Spec::Scene && !nvenc && encoder != Choice::Nvjpeg;
    // A quality that is fixed leaves nothing to the bit rate, and under a choice of JPEG there is nothing else.
    let fixed = encoder.codec() == Codec::Jpeg && matches!(args.jpeg_quality, Some(Quality::Fixed(_)));
    let (reason, auto) = ("only NVENC needs encoder slots", "gsk serve --encoder auto");
    let idle = [
        (
            "loop",
            args.r#loop == Some(true) && !file,
            &of_source,
            "only a file can start again",
            "gsk serve --source FILE.y4m --loop",
        ),
        (
            "restart",
            !program,
            &of_source,
            "only a program can be started again",
            "gsk serve --restart on-failure -- CMD ARGS…",
        ),
        (
            "pixel_format",
            !raw,
            &of_source,
            "only raw frames need it",
            "gsk serve --source - --pixel-format rgb24 --size 1280x720",
        ),
        ("bitrate", fixed, &of_encoder, "--jpeg-quality is fixed", "gsk serve --encoder jpeg --jpeg-quality auto"),
        ("gpu", without_gpu, &of_encoder, "no GPU has a part in it", auto),
        ("nvenc_max_sessions", !nvenc, &of_encoder, reason, auto),
        ("when_full", !nvenc, &of_encoder, reason, auto),
        ("codec", codec, &of_encoder, "only NVENC leaves a choice", auto),
        ("nvenc_preset", !nvenc, &of_encoder, "only NVENC has presets", auto),
        ("intra_refresh", !nvenc, &of_encoder, "only NVENC refreshes so", auto),
        ("nvenc_input", !nvenc, &of_encoder, "only NVENC takes pictures of several kinds", auto),
        ("when_full", software && encoder == Choice::Nvenc, &of_encoder, "it allows no other encoder", auto),
    ];
    let mut warnings = Vec::new();
    for (key, idle, of, reason, hint) in idle {
        let place = resolved.origin(key);
        match place {
            _ if !idle => {}
            Origin::Default => {}
            Origin::Flag(flag) => {
                return Err(Error::usage(format!("{flag} does nothing for {of}")).cause(reason).hint(hint));
            }
            _ => warnings.push(format!("'{key}' ({place}) does nothing for {of}: {reason}")),
        }
    }
    Ok(warnings)
}

/// As the flag takes it.
fn as_word(encoder: Choice) -> String {
    encoder.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{self, Known, Layers};

    /// The settings of these flags where `GSK_TOKEN_FILE` and `GSK_TOKEN` are set so.
    fn settled(flags: ServeArgs, file: &str, token: &str) -> Settings {
        let environment = [("GSK_TOKEN_FILE", file), ("GSK_TOKEN", token)];
        let environment: BTreeMap<_, _> = environment.into_iter().map(|(k, v)| (k.to_string(), v.into())).collect();
        let known = Known::default().with::<ServeArgs>().unwrap();
        let layers = Layers::from(environment, Path::new("/nowhere"), None, known).unwrap();
        settings(config::resolve(&flags, &layers).unwrap()).unwrap().0
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let s = settled(ServeArgs::default(), "", "");
        assert_eq!(
            (s.listen.to_string().as_str(), &s.source, s.encoder),
            ("127.0.0.1:5000", &Spec::Scene, Choice::Auto)
        );
        assert_eq!((s.size, s.fps, s.bitrate, s.jpeg_quality), (None, 30.0, 4_000_000, Quality::Auto));
        assert_eq!((s.codec, s.nvenc), (Main::H264, NvencOptions::default()));
        assert_eq!((s.restart, s.looped, s.input, s.max_viewers), (Restart::Never, false, Input::All, 512));
        assert!(matches!(s.token, Token::Unset));
        let help = crate::cli::command().find_subcommand_mut("serve").unwrap().render_help().to_string();
        let words = "127.0.0.1:5000 scene 30 4M auto never all 512 omega-0 h264 p3 nv12";
        for default in words.split(' ') {
            let words = format!("[default: {default}]");
            assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(&words), "{words}");
        }
    }

    #[test]
    fn the_nearest_token_wins() {
        let flag = || ServeArgs { token_file: Some("flag".into()), ..ServeArgs::default() };
        let file = |s: Settings| match s.token {
            Token::File(path) => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(file(settled(flag(), "variable", "secret")), "flag");
        assert_eq!(file(settled(ServeArgs::default(), "variable", "")), "variable");
        let given = settled(ServeArgs::default(), "variable", "secret").token;
        assert!(matches!(given, Token::Given(secret) if secret.reveal() == "secret"));
    }

    #[test]
    fn a_program_takes_the_place_of_the_scene() {
        let flags = ServeArgs { command: Some(vec!["sh".into(), "-c".into()]), ..ServeArgs::default() };
        assert_eq!(settled(flags, "", "").source, Spec::Program(vec!["sh".into(), "-c".into()]));
    }
}
