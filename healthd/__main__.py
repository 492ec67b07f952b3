from healthd.cli import main

main()
