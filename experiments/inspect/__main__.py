from experiments.inspect.inspect import main

main()
