use sbx::*;
fn main() {
    let argv: Vec<String> = std::env::args().skip(1).collect();
    let cwd = std::env::current_dir().unwrap();
    let project = config::discover::discover(&cwd, None, None, None).unwrap();
    let c = config::load(&project.config).unwrap();
    let store = store::Store::open("/tmp/dev-store".into()).unwrap();
    let request = sandbox::Request {
        project_root: project.root.clone(),
        config_path: project.config.clone(),
        settings: c.settings.clone(),
        task: None,
        argv,
        working_directory: cwd,
        environment: Default::default(),
    };
    let mut clock = sandbox::phases::Phases::new();
    let p = sandbox::prepare(&store, &request, false, &inputs::Silent, &mut clock).unwrap();
    match sandbox::execute(
        &store,
        &request,
        &p,
        &sandbox::Options { stdin: sandbox::Stdin::Null, keep: false },
        &mut clock,
    ) {
        Ok(o) => {
            for n in &o.notes {
                eprintln!("sbx: {n}");
            }
            if let Some(f) = &o.failure {
                eprintln!("sbx: {f} hint {:?}", f.hint());
            }
            if std::env::var("V").is_ok() {
                eprintln!("{}", serde_json::to_string_pretty(&o.record).unwrap());
            }
            std::process::exit(o.record.exit.code)
        }
        Err(e) => {
            eprintln!("ERR {e:?} {e}");
            std::process::exit(125)
        }
    }
}
