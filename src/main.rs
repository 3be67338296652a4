fn main() -> std::process::ExitCode {
    gsk::cli::main()
}
