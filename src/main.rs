fn main() -> std::process::ExitCode {
    gsk::child::guard_if_asked();
    gsk::cli::main()
}
