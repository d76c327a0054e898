#!/bin/sh
# make with two jobs at once, its jobserver, and a program of C made by it.
exec 2>&1
mkdir -p src
for n in 1 2 3 4 5 6; do printf 'int f%d(void) { return %d; }\n' $n $n >src/f$n.c; done
{ for n in 1 2 3 4 5 6; do echo "int f$n(void);"; done; echo '#include <stdio.h>'; printf '%s\n' 'int main(void) { printf("%d\n", f1() + f2() + f3() + f4() + f5() + f6()); return 0; }'; } >src/main.c
cat >Makefile <<'END'
CC = gcc-12
objects := $(patsubst src/%.c,out/%.o,$(wildcard src/*.c))
.PHONY: all clean check
all: out/program
out/program: $(objects)
	@$(CC) -o $@ $^ && echo linked $(words $^)
out/%.o: src/%.c | out
	@$(CC) -O1 -c -o $@ $<
out:
	@mkdir out
check: all
	@out/program
	@$(MAKE) --no-print-directory -C sub
clean:
	rm -rf out
fails:
	@false
	@echo unreachable
ignored:
	-@exit 3
	@echo went on
variables: export EXPORTED = value
variables:
	@echo '$(shell echo from a shell) $(CURDIR:%/$(notdir $(CURDIR))=here) $(sort c a b)' | sed 's/ .*here / /'
	@echo $$EXPORTED $(if $(filter b,a b c),found) $(foreach x,1 2 3,[$(x)]) $(subst a,b,banana)
END
mkdir sub; printf 'jobs := $(shell seq 1 8)\nall: $(addprefix job-,$(jobs))\njob-%%:\n\t@sleep 0.05; echo $* >>done\n' >sub/Makefile
make -j2 check; sort sub/done | tr '\n' ' '; echo
make -j2 check | sed -n 1p; touch src/f3.c; make -q all; echo $?; make -n all | wc -l; make -j2 --output-sync all; make fails; echo $?; make ignored; make variables; make nothing; echo $?; make -k fails variables | tail -n 1; make -s clean; ls; make --version | head -n 1
printf 'all: ; @kill -TERM $$PPID; sleep 5\n' >ends; make -f ends; echo $?
rm -rf src sub Makefile out ends
