from experiments.benchmark.benchmark import main

main()
