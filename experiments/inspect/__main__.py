from experiments.inspect.command import main

if __name__ == "__main__":
    main()
