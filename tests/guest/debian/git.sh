#!/bin/sh
# git: repositories from init to gc, with dates and names that are the same everywhere.
exec 2>&1
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z' GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat HOME="$PWD"
git config --global init.defaultBranch main; git config --global advice.detachedHead false; git config --global protocol.file.allow always; git config --global gc.auto 0
here() { sed "s:$top:HERE:g"; }
git init -q repo && cd repo || exit 1; top=$(dirname "$PWD")
echo '--- commits'
seq 20 >numbers; mkdir -p sub/dir; echo text >sub/dir/file; printf '#!/bin/sh\n' >run; chmod +x run; ln -s numbers link; head -c 50000 /dev/zero >zeros
git add . && git commit -q -m 'first' && git log --format='%h %an %s %ad' --stat; git status --short --branch
sed -i 's/^10$/ten/' numbers; git diff; git commit -q -am 'ten'; echo new >untracked; git status --porcelain; git stash -q -u && git stash list && git stash pop -q; git mv run walk; git rm -q sub/dir/file; git commit -q -m 'moved'; git show --stat --format=%s -M HEAD
git ls-files -s; git ls-tree -r HEAD; git cat-file -p HEAD; git cat-file -t HEAD:numbers; git rev-parse HEAD HEAD~1 HEAD^{tree}; git hash-object numbers; git write-tree; git describe --always
echo '--- branches and merges'
git checkout -q -b topic; sed -i 's/^2$/two/' numbers; git commit -q -am 'two'; echo a >a; git add a; git commit -q -m a
git checkout -q main; sed -i 's/^18$/eighteen/' numbers; git commit -q -am 'eighteen'; git merge -q --no-edit topic && git log --graph --oneline --decorate; git branch -v; git tag -a v1 -m one; git tag light; git tag -n
git checkout -q -b conflict HEAD~1; sed -i 's/^2$/zwei/' numbers; git commit -q -am zwei; git merge main; echo "merge: $?"; git diff --name-only --diff-filter=U; git checkout -q --theirs numbers; git add numbers; git commit -q -m resolved; git log --oneline | wc -l
git checkout -q -b linear topic; git rebase -q main && git log -1 --format=%s; git cherry-pick conflict~1 >/dev/null || git cherry-pick --abort; git revert --no-edit HEAD >/dev/null && git show --format=%s --stat HEAD; git reset -q --hard main; git checkout -q main; git branch -D conflict linear | cut -d' ' -f1-3
git blame -s numbers | head -n 3; git log -S ten --oneline; git log --follow --format=%s walk; git shortlog -sn HEAD; git grep -n -e te numbers; git diff --stat HEAD~2; git diff --word-diff HEAD~3 -- numbers | tail -n 5; git bisect start -q HEAD HEAD~3 2>/dev/null >/dev/null; git bisect run sh -c '! grep -q eighteen numbers' | tail -n 1; git bisect reset -q 2>/dev/null
echo '--- clones'
cd ..; git clone -q repo clone && git -C clone log --oneline | wc -l; git clone -q --bare repo bare.git; git clone -q --depth 1 "file://$PWD/repo" shallow && git -C shallow rev-list --count HEAD; git clone -q --no-local --mirror repo mirror.git && git -C mirror.git for-each-ref --format='%(refname)'
cd clone; echo pushed >pushed; git add pushed; git commit -q -m pushed; git push -q ../bare.git HEAD:refs/heads/incoming && git -C ../bare.git log -1 --format=%s incoming; git fetch -q ../bare.git incoming && git rev-parse FETCH_HEAD; git remote add bare ../bare.git; git pull -q --rebase bare incoming && git remote -v | here
git format-patch -q -1 -o ..; cd ../repo; git am -q ../0001-pushed.patch && git log -1 --format='%s %an'; git worktree add -q ../tree topic && git worktree list | here | sed 's/  */ /g'; git worktree remove ../tree
git submodule --quiet add ../clone module 2>/dev/null; cat .gitmodules; git commit -q -m module; git submodule status | sed 's/(.*//'
printf 'export-subst\n' >/dev/null; git archive --format=tar HEAD numbers walk | tar -t; git bundle create -q ../bundle main && git bundle verify -q ../bundle && echo "bundle is fine"; git fsck --full && echo "fsck: $?"; git count-objects | cut -d, -f1
echo '--- packs'
git gc -q --prune=now; git count-objects -v | grep -E 'count|packs|in-pack'; git verify-pack -v .git/objects/pack/*.idx | tail -n 1 | grep -c ok; git fsck && git repack -q -a -d -f --depth=5 && git multi-pack-index write && git commit-graph write --reachable 2>/dev/null && git fsck && git log --oneline | wc -l; git reflog | wc -l; git fast-export --all | git -C "$(git init -q --bare ../imported.git; echo ../imported.git)" fast-import --quiet && git -C ../imported.git rev-parse main
printf '#!/bin/sh\necho "hook $0 $(cat "$1" | head -n 1)"\n' >.git/hooks/commit-msg; chmod +x .git/hooks/commit-msg; echo x >>walk; git commit -q -am hooked; printf '#!/bin/sh\nexit 1\n' >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; echo y >>walk; git commit -q -am refused; echo "$?"
git daemon --base-path=.. --export-all --reuseaddr --listen=127.0.0.1 --port=9428 2>/dev/null & daemon=$!
for try in $(seq 100); do git ls-remote git://127.0.0.1:9428/bare.git >refs 2>/dev/null && break; sleep 0.1; done; wc -l <refs; git clone -q git://127.0.0.1:9428/bare.git ../served && git -C ../served log --oneline | wc -l; kill $daemon; wait $daemon 2>/dev/null
echo 'broken' >.git/objects/pack/x.pack; git cat-file -e deadbeef; echo $?; git nonsense; echo $?; cd ..; git -C . status >/dev/null; echo $?
rm -rf repo clone bare.git shallow mirror.git imported.git served bundle .gitconfig ./*.patch
