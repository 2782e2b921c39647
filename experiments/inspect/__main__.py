from experiments.inspect.inspect import main

if __name__ == "__main__":
    main()
